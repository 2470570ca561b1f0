"""What a job printed is read again after its host has gone, with the same numbers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from hodei_core import (
    Backoff,
    Hodei,
    LogEntry,
    LogSource,
    OutputLostError,
    Reason,
    RetryPolicy,
)
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.sqlite import SqliteStore
from tests.sqlite.keeping import check_file, select

LIMIT = 60.0
REPOSITORY = Path(__file__).parents[2]
TWICE = RetryPolicy(max_attempts=2, backoff=Backoff(first=0.01), requeue_interrupted=True)
PRINTS = "echo one; echo two; echo three; test $HODEI_ATTEMPT = 2 || exec sleep 300; echo four"
PROGRAM = f"""
import anyio, sys
from hodei_core import Backoff, Hodei, RetryPolicy

async def main():
    async with Hodei(sys.argv[1]) as hodei:
        retry = RetryPolicy(max_attempts=2, backoff=Backoff(first=0.01))
        await hodei.run({PRINTS!r}, name="prints", retry=retry)

anyio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def host(path: Path) -> Hodei:
    return Hodei(SqliteStore(path), providers=[LocalProvider(slots=1)], shutdown_timeout=0)


def told(entries: list[LogEntry]) -> list[tuple[int, int, str, str]]:
    return [(e.seq, e.attempt, e.source.value, e.text) for e in entries]


def lines(path: Path) -> int:
    """Return how many entries the file has."""
    try:
        return int(select(path, "select coalesce(sum(last), 0) from log_bounds")[0][0])
    except sqlite3.OperationalError:  # it is being made
        return 0


@contextmanager
def another_host(path: Path) -> Iterator[int]:
    """Run a host in a process of its own; yield its pid. It is killed in the end."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], cwd=REPOSITORY) as process:
        try:
            yield process.pid
        finally:
            process.kill()


async def until_lines(path: Path, count: int) -> None:
    with anyio.fail_after(30):
        while lines(path) < count:  # noqa: ASYNC110 - another process writes them
            await anyio.sleep(0.01)


def end_leases(path: Path) -> None:
    """Have the hosts that are dead be known as such, as when their leases have ended."""
    with closing(sqlite3.connect(path, timeout=5)) as connection:
        connection.execute("delete from hosts")
        connection.commit()


FIRST = [(1, 1, "stdout", "one"), (2, 1, "stdout", "two"), (3, 1, "stdout", "three")]


async def test_after_a_host_has_closed_the_next_one_reads_the_same_numbers(path: Path) -> None:
    with anyio.fail_after(60):
        async with host(path) as hodei:
            job = await hodei.submit(PRINTS, retry=TWICE)
            stream = job.logs()
            before = [await anext(aiter(stream)) for _ in range(3)]
        check_file(path)
        assert told(before) == FIRST
        async with host(path) as hodei:
            again = hodei.handle(job.id)
            stored = [entry async for entry in again.logs(follow=False, source=LogSource.STDOUT)]
            assert stored[:3] == before
            result = await again.wait()
            entries = [entry async for entry in again.logs()]
            assert entries[:3] == before
            assert told(entries[3:]) == [
                (4, 2, "stdout", "one"),
                (5, 2, "stdout", "two"),
                (6, 2, "stdout", "three"),
                (7, 2, "stdout", "four"),
            ]
            assert [entry async for entry in again.logs(after=3)] == entries[3:]
            assert (result.stdout, result.truncated) == ("one\ntwo\nthree\nfour\n", False)


async def test_after_a_host_was_killed_the_log_goes_on_behind_its_torn_end(path: Path) -> None:
    with anyio.fail_after(90):
        with another_host(path) as pid:
            await until_lines(path, 3)
            os.kill(pid, signal.SIGKILL)
        end_leases(path)
        async with host(path) as hodei:
            (job,) = await hodei.list_jobs()
            handle = hodei.handle(job.id)
            result = await handle.wait()
            entries = [entry async for entry in handle.logs()]
            assert told(entries[:3]) == FIRST
            torn = entries[3]
            assert (torn.seq, torn.attempt, torn.source) == (4, 1, LogSource.SYSTEM)
            assert torn.lost == 1
            assert torn.text == ("the end of the output of attempt 1 may be missing: its host died")
            assert [e.seq for e in entries] == list(range(1, 9))
            assert [(e.attempt, e.text) for e in entries[4:]] == [
                (2, "one"),
                (2, "two"),
                (2, "three"),
                (2, "four"),
            ]
            assert [a.reason for a in result.attempts] == [Reason.WORKER_LOST, None]
            assert (result.stdout, result.truncated) == ("one\ntwo\nthree\nfour\n", False)
            # As every gap: it passes each filter, and is none of the last lines.
            errors = [entry async for entry in handle.logs(source=LogSource.STDERR)]
            assert errors == [torn]
            tail = [entry async for entry in handle.logs(tail=5)]
            assert tail == entries[2:]
            assert await handle.output() == b"one\ntwo\nthree\nfour\n"
            with pytest.raises(OutputLostError, match="may be missing"):
                await handle.output(attempt=1)
    check_file(path)


@pytest.mark.parametrize(("count", "pause"), [(6_000, 0.0), (20_000, 0.1), (60_000, 0.5)])
async def test_each_attempt_of_a_retried_job_has_all_that_it_printed(
    path: Path, count: int, pause: float
) -> None:
    """What was left to be written went in two commits, and the next attempt's beginning in none."""
    retry = RetryPolicy(max_attempts=3, backoff=Backoff(first=pause, jitter=0))
    line = "x" * 63
    with anyio.fail_after(LIMIT):
        async with host(path) as hodei:
            result = await hodei.run(f"yes {line} | head -n {count}; exit 4", retry=retry)
            job = hodei.handle(result.job_id)
            printed = [(e.seq, e.attempt, e.lost) async for e in job.logs()]
            last = await job.output()
    assert printed == [(1 + n, 1 + n // count, 0) for n in range(3 * count)]
    assert last == f"{line}\n".encode() * count
