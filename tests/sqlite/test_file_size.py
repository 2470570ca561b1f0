"""How large a store's file and its write-ahead log become."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from hodei_core import Hodei, Retention
from hodei_core.backends.memory import MemoryProvider
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.backends.sqlite.checkpoints import Checkpoints
from hodei_core.backends.sqlite.pragmas import WAL_BYTES
from hodei_core.executions import Execution, Output
from hodei_core.ports import Prune, Retain
from hodei_core.testing import StoreDriver
from hodei_core.testing.contracts.samples import at, segment, submission
from tests.sqlite.keeping import ended, opened, select

MIB = 1024 * 1024
SMALL_WAL = 8 * MIB  # twice what SQLite lets it grow to before it takes it over
LARGE_WAL = 3 * WAL_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def wal_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


def pages(path: Path) -> int:
    return int(select(path, "pragma page_count")[0][0])


async def write_log(driver: StoreDriver, name: str, size: int) -> None:
    """Store the log of a job, in commits of 256 KiB."""
    job = await driver.start(await driver.add(name))
    for first in range(1, size // 65_536, 4):
        await driver.append(job, *(segment(first + i, b"x" * 65_536) for i in range(4)))
    await driver.finish(job)


# Events

MANY_EVENTS = """
with recursive n (i) as (select 1 union all select i + 1 from n where i < 25000)
insert into events (writer, job, version, kind, at) select 1, i, 1, 'submitted', 0 from n
"""
KEPT = 20_000


async def test_openings_for_one_job_each_leave_no_more_events_than_are_kept(path: Path) -> None:
    async with opened(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as another:
        another.execute(MANY_EVENTS)
    for number in range(3):
        async with opened(path) as driver:
            await driver.add(f"job-{number}")
        assert select(path, "select count(*) from events")[0][0] <= KEPT + 1


async def test_a_long_opening_leaves_hardly_more_events_than_are_kept(path: Path) -> None:
    async with opened(path) as driver:
        with closing(sqlite3.connect(path, isolation_level=None)) as another:
            another.execute(MANY_EVENTS)
        for first in range(0, 5_000, 250):
            await driver.accept(*(submission(f"job-{first + i}") for i in range(250)))
            assert select(path, "select count(*) from events")[0][0] <= KEPT + 1_250
    (told,) = select(path, "select count(*) from events where kind = 'submitted' and at > 0")
    assert told[0] == 5_000


# Pages


async def test_a_store_with_retention_does_not_grow_under_constant_load(path: Path) -> None:
    policy = Retention(max_jobs=100, max_log_bytes=2 * MIB)
    sizes: list[int] = []
    async with opened(path) as driver:
        for round_ in range(12):
            for number in range(60):
                await ended(driver, f"{round_}-{number}", log=[b"x" * 50_000] * 2)
            while (await driver.apply(Retain(policy, at(1000)))).more:
                continue
            sizes.append(pages(path))
    assert max(sizes[3:]) <= sizes[2] * 1.1, sizes


async def test_what_is_deleted_can_be_given_back_to_the_file_system(path: Path) -> None:
    async with opened(path) as driver:
        await write_log(driver, "large", 20 * MIB)
        await driver.apply(Prune(at(1000)))
        assert pages(path) * 4096 > 20 * MIB
        with closing(sqlite3.connect(path)) as another:
            another.executescript("pragma incremental_vacuum")  # 3.11: execute gives back one page
        assert pages(path) * 4096 < MIB
        await ended(driver, "after")
    assert path.stat().st_size < MIB


# The write-ahead log


async def test_a_hundred_mib_of_log_keep_the_wal_small(path: Path) -> None:
    async with opened(path) as driver:
        largest = 0
        for number in range(10):
            await write_log(driver, f"job-{number}", 10 * MIB)
            largest = max(largest, wal_bytes(path))
        assert largest < SMALL_WAL


async def work(execution: Execution, output: Output) -> None:
    for _ in range(int(str(execution.spec.command))):
        await output.write((b"x" * 1023 + b"\n") * 256)


async def test_our_own_readers_never_hold_it_open(path: Path) -> None:
    """Streams of logs that stop half way, and pages of jobs, while 30 MiB are written."""
    hodei = Hodei(SqliteStore(path, synchronous="NORMAL"), providers=[MemoryProvider(work)])
    async with hodei:
        first = await hodei.submit("8")
        await first.wait()
        streams = [first.logs(), first.logs(follow=False), first.logs(tail=100)]
        for stream in streams:
            await stream.__anext__()
        (page,) = await hodei.list_jobs(limit=1)
        job = await hodei.submit("120")
        async for batch in job.logs().batches():
            assert batch
        assert wal_bytes(path) < SMALL_WAL
        for stream in streams:
            await stream.__anext__()
        assert await hodei.list_jobs(after=page.id) == []


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin")
print(connection.execute("select count(*) from jobs").fetchone()[0], flush=True)
sys.stdin.read()
"""


@contextmanager
def foreign_reader(path: Path) -> Iterator[None]:
    """Let a program that is not ours hold a read transaction."""
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        try:
            assert reader.stdout.readline().strip().isdigit()
            yield
        finally:
            reader.stdin.close()
            reader.wait(10)


@contextmanager
def unchecked(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file whose log SQLite itself never takes over, as if somebody always read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = off")
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("create table things (content blob)")
        yield connection


def commit(connection: sqlite3.Connection, checkpoints: Checkpoints, times: int) -> None:
    for _ in range(times):
        connection.execute("insert into things values (zeroblob(100000))")
        checkpoints.committed(connection)


def test_a_log_that_only_grows_is_emptied(path: Path) -> None:
    with unchecked(path) as connection:
        checkpoints = Checkpoints(str(path))
        sizes = []
        for _ in range(30):
            commit(connection, checkpoints, 20)
            sizes.append(wal_bytes(path))
        assert WAL_BYTES < max(sizes) < 2 * WAL_BYTES
        assert any(after < before for before, after in pairwise(sizes))


async def test_the_store_empties_a_log_that_only_grows(path: Path) -> None:
    async with opened(path) as driver:
        writing = driver.store._writing  # type: ignore[attr-defined]
        await writing.execute("pragma wal_autocheckpoint = 0")
        await write_log(driver, "large", 4 * WAL_BYTES)
        assert wal_bytes(path) < 3 * WAL_BYTES


def test_a_log_that_somebody_reads_is_tried_again_when_it_has_grown(path: Path) -> None:
    with unchecked(path) as connection, closing(sqlite3.connect(path)) as reader:
        checkpoints = Checkpoints(str(path))
        waited = connection.execute("pragma busy_timeout").fetchall()
        commit(connection, checkpoints, 1)
        reader.execute("begin")
        reader.execute("select count(*) from things").fetchall()
        commit(connection, checkpoints, 64 * 5)
        assert wal_bytes(path) > WAL_BYTES
        assert connection.execute("pragma busy_timeout").fetchall() == waited
        reader.rollback()
        commit(connection, checkpoints, 64 * 5)
        assert wal_bytes(path) < WAL_BYTES


async def test_a_wal_that_a_foreign_reader_held_open_is_taken_over_and_cut(path: Path) -> None:
    async with opened(path) as driver:
        await write_log(driver, "before", MIB)
        with foreign_reader(path):
            await write_log(driver, "during", LARGE_WAL)
            assert wal_bytes(path) > LARGE_WAL, "nothing can be taken over that is being read"
            await driver.add("written all the same")
        for number in range(20):
            await driver.add(f"after-{number}")
        assert wal_bytes(path) <= WAL_BYTES
        await write_log(driver, "then", LARGE_WAL)
        assert wal_bytes(path) <= WAL_BYTES
    assert not Path(f"{path}-wal").exists()
