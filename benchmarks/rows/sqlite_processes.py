"""Process jobs, kept in a file."""

from __future__ import annotations

import asyncio

from benchmarks.figures import Figure, Row
from benchmarks.rows.processes import measured
from benchmarks.stores import Synchronous, new_files
from hodei_core.backends.sqlite import SqliteStore

_TARGETS: dict[tuple[Synchronous, int], tuple[float, float]] = {
    ("FULL", 2): (0.5, 0.6),
    ("FULL", 8): (0.75, 0.9),
    ("NORMAL", 2): (0.65, 0.8),
    ("NORMAL", 8): (0.8, 1.0),
}


def measure(quick: bool) -> list[Figure]:
    with new_files() as new_file:
        return [
            asyncio.run(
                measured(
                    f"sqlite_processes.{kind.lower()}.{slots}",
                    slots,
                    quick,
                    targets=targets,
                    store=SqliteStore(new_file(), synchronous=kind),
                    where=f"SQLite {kind}",
                )
            )
            for (kind, slots), targets in _TARGETS.items()
        ]


ROW = Row("sqlite_processes", "process jobs on 2 and 8 slots, in a SQLite store", measure)
