"""Deleting what is old: in slices, each of which leaves a whole file behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from hodei_core import JobState, Retention
from hodei_core.backends.sqlite.pruning import _SLICE_BYTES, _SLICE_SEGMENTS
from hodei_core.ports import Change, Outcome, Prune, Retain
from hodei_core.runtime.slices import in_slices
from hodei_core.testing import StoreDriver
from hodei_core.testing.contracts.samples import at
from tests.sqlite.keeping import check_file, ended, names, opened, print_log, select

REPOSITORY = Path(__file__).parents[2]
NOTHING = Retention(max_age=0, failed_max_age=0)
DELETIONS = [Prune(at(100), limit=1), Retain(NOTHING, at(100), limit=1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.mark.parametrize("change", DELETIONS, ids=["prune", "retain"])
async def test_after_each_slice_the_file_is_whole(change: Prune | Retain, path: Path) -> None:
    async with opened(path) as driver:
        for number, state in enumerate((JobState.SUCCEEDED, JobState.FAILED) * 3):
            log = [b"x" * 1000] * (_SLICE_SEGMENTS + 1 if number == 3 else 2)
            await ended(driver, f"old-{number}", state=state, log=log)
        await ended(driver, "new", seconds=500, log=b"stays\n")
        running = await driver.start(await driver.add("running", key="r"))
        await print_log(driver, running, b"stays\n")
        slices = 0
        outcome = await driver.apply(change)
        while outcome.more:
            check_file(path)
            slices += 1
            assert outcome.count <= 1
            outcome = await driver.apply(change)
        check_file(path)
        assert slices >= 6
        assert await names(driver.store) == {"new", "running"}
        assert select(path, "select cast(data as text) from logs") == [("stays\n",)] * 2


async def test_a_slice_bounds_the_segments_and_the_bytes_that_it_deletes(path: Path) -> None:
    async with opened(path) as driver:
        await ended(driver, "many", log=[b"x"] * (_SLICE_SEGMENTS * 2))
        await ended(driver, "large", log=[b"x" * 60_000] * (3 * _SLICE_BYTES // 60_000))
        more = True
        while more:
            segments, size = _logs(path)
            more = (await driver.apply(Prune(at(100), limit=1000))).more
            segments_left, size_left = _logs(path)
            assert segments - segments_left <= _SLICE_SEGMENTS
            assert size - size_left <= _SLICE_BYTES + 60_000
        assert await names(driver.store) == set()


def _logs(path: Path) -> tuple[int, int]:
    ((segments, size),) = select(path, "select count(*), coalesce(sum(length(data)), 0) from logs")
    return segments, size


async def test_two_that_prune_at_once_delete_each_job_once(path: Path) -> None:
    async with opened(path) as first, opened(path) as second:
        for number in range(50):
            await ended(first, f"old-{number}", log=b"line\n")
        counts: list[int] = []

        async def prune(driver: StoreDriver) -> None:
            counts.append(await in_slices(driver.apply, Prune(at(100), limit=3)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(prune, first)
            tasks.start_soon(prune, second)
        assert sum(counts) == 50
        check_file(path)


async def test_others_have_their_turn_between_the_slices() -> None:
    slices = 0

    async def ask(_: Change) -> Outcome:
        nonlocal slices
        slices += 1
        return Outcome(count=2, more=slices < 3)

    turns: list[int] = []

    async def another() -> None:
        for _ in range(3):
            turns.append(slices)
            await anyio.sleep(0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(another)
        assert await in_slices(ask, Prune(at(100), limit=1)) == 6
    assert turns[0] == 1


async def test_a_store_is_written_to_between_the_slices_of_a_long_prune(path: Path) -> None:
    async with opened(path) as driver:
        for number in range(40):
            await ended(driver, f"old-{number}")
        slices = 0

        async def ask(change: Change) -> Outcome:
            nonlocal slices
            slices += 1
            return await driver.apply(change)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_slices, ask, Prune(at(100), limit=1))
            written = 0
            while slices < 30:
                await driver.add(f"new-{written}")
                written += 1
        assert written > 10


PROGRAM = """
import asyncio, sys
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ids import HostId
from hodei_core.ports import Prune
from hodei_core.testing.contracts.samples import at

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open(HostId("pruner"))
    while (await store.apply([Prune(at(100), limit=3)]))[0].more:
        pass
    await store.close()

asyncio.run(main())
"""


KILLED_AT = (1, 2, 5, 9, 14, 20, 27)
"""Of its writes, the ones at which a process is killed."""


def prune_under(*arguments: str, path: Path) -> int:
    """Prune in a process of its own, run by a program; return how that ended."""
    done = subprocess.run(
        [*arguments, sys.executable, "-c", PROGRAM, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="kills at a write by strace")
async def test_whenever_a_prune_is_killed_the_next_one_finishes_it(path: Path) -> None:
    async with opened(path) as driver:
        for number in range(30):
            await ended(driver, f"old-{number}", log=[b"x" * 5000] * 2)
        await ended(driver, "new", seconds=500, log=b"stays\n")
    killed = 0
    for write in KILLED_AT:
        inject = f"inject=pwrite64:signal=KILL:when={write}"
        trace = ("strace", "-f", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", inject)
        killed += prune_under(*trace, path=path) != 0
        check_file(path)
    assert killed >= 3
    assert prune_under(path=path) == 0
    check_file(path)
    assert select(path, "select id from jobs") == [("new",)]
