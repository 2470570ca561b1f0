"""What the tests of deletion share: a store with old jobs, and a look into the file by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from hodei_core.backends.sqlite import SqliteStore
from hodei_core.backends.sqlite.pruning import SEGMENT_BYTES
from hodei_core.jobs import Job
from hodei_core.ports import Store
from hodei_core.retention import Retention
from hodei_core.states import JobState, Reason
from hodei_core.testing import StoreDriver
from hodei_core.testing.contracts.driver import HOST
from hodei_core.testing.contracts.samples import at, segment

OF_A_JOB = {"specs": "seq", "labels": "seq", "keys": "seq", "logs": "job", "log_bounds": "job"}
"""The tables whose rows belong to a job, and the column that says to which."""


@asynccontextmanager
async def opened(path: Path, retention: Retention | None = None) -> AsyncIterator[StoreDriver]:
    store = SqliteStore(path, synchronous="NORMAL", retention=retention)
    await store.open(HOST)
    try:
        driver = StoreDriver(store)
        await driver.add_worker()
        yield driver
    finally:
        await store.close()


async def ended(
    driver: StoreDriver,
    name: str,
    *,
    seconds: float = 3,
    state: JobState = JobState.SUCCEEDED,
    log: bytes | list[bytes] = b"",
) -> Job:
    """Store a job that ended at `at(seconds)`, with every kind of row that a job may have."""
    job = await driver.start(await driver.add(name, labels={"a": "1", "b": name}, key=name))
    await print_log(driver, job, log)
    reason = None if state is JobState.SUCCEEDED else Reason.EXIT_CODE
    return await driver.move(job, job.finished(state, reason, at=at(seconds), exit_code=0))


async def print_log(driver: StoreDriver, job: Job, log: bytes | list[bytes]) -> None:
    pieces = [log] if isinstance(log, bytes) else log
    segments = [segment(number, data) for number, data in enumerate(pieces, 1) if data]
    if segments:
        assert (await driver.append(job, *segments)).applied


def select(path: Path, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Return rows of the file, read by a connection that has nothing to do with the store."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement, arguments).fetchall()


def check_file(path: Path) -> None:
    """Hold that each row belongs to something, and that what is counted is there."""
    assert select(path, "pragma integrity_check") == [("ok",)]
    assert select(path, "pragma foreign_key_check") == []
    for table, column in OF_A_JOB.items():
        lost = f"select count(*) from {table} where {column} not in (select seq from jobs)"
        assert select(path, lost) == [(0,)], table
    assert select(path, "select count(*) from jobs where seq not in (select seq from specs)") == [
        (0,)
    ]
    counted = dict(select(path, "select state, jobs from counts where jobs > 0"))
    assert counted == dict(select(path, "select state, count(*) from jobs group by state"))
    ((segments, size),) = select(path, "select count(*), coalesce(sum(length(data)), 0) from logs")
    assert select(path, "select bytes from totals where name = 'logs'") == [
        (size + SEGMENT_BYTES * segments,)
    ]
    wrong = """
        select b.job from log_bounds b left join logs l on l.job = b.job group by b.job
        having b.bytes <> coalesce(sum(length(l.data)), 0)
            or b.lost + 1 <> coalesce(min(l.first_seq), b.last + 1)
    """
    assert select(path, wrong) == []


async def names(store: Store) -> set[str]:
    assert isinstance(store, SqliteStore)
    return {str(row[0]) for row in select(store.path, "select id from jobs")}
