"""The rows of the table, in its order."""

from __future__ import annotations

from benchmarks.rows import (
    cancel,
    decision,
    idle,
    imports,
    latency,
    logs,
    loop,
    memory,
    noop,
    processes,
    readers,
    scale,
    simulation,
    sqlite_file,
    sqlite_idle,
    sqlite_logs,
    sqlite_loop,
    sqlite_noop,
    sqlite_processes,
    sqlite_queue,
    sqlite_rescue,
    sqlite_submit,
)

ROWS = {
    module.ROW.name: module.ROW
    for module in (
        processes,
        noop,
        latency,
        logs,
        readers,
        decision,
        scale,
        memory,
        loop,
        idle,
        imports,
        cancel,
        simulation,
        sqlite_processes,
        sqlite_noop,
        sqlite_submit,
        sqlite_queue,
        sqlite_file,
        sqlite_logs,
        sqlite_loop,
        sqlite_idle,
        sqlite_rescue,
    )
}
