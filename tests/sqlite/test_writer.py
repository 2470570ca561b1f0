from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio

from hodei_core.backends.sqlite.writer import Writer, WritingConnection

LIMIT = 20  # seconds


async def test_a_call_that_is_taken_back_after_a_commit_leaves_the_writer_idle(
    tmp_path: Path,
) -> None:
    connection = sqlite3.connect(
        tmp_path / "jobs.db", factory=WritingConnection, isolation_level=None
    )
    hops: list[Callable[[WritingConnection], None]] = []
    writer = Writer(hops.append)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.apply, [])
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as others:
                    others.start_soon(writer.apply, [])
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(writer.until_idle)
                    await anyio.wait_all_tasks_blocked()
                    (commit,) = hops
                    commit(connection)
                    scope.cancel()
    assert len(hops) == 1
    connection.close()
