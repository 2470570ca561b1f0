"""Nothing piles up: descriptors, threads and processes stay as many as they were."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio
import pytest

from hodei_core.backends.local import LocalProvider
from hodei_core.ids import WorkerId
from tests.local.helpers import Recorder, execution, local, new_host, zombies_of

pytestmark = pytest.mark.anyio

ROUNDS = 50


def _census() -> tuple[list[str], int, list[int]]:
    """Return descriptors with what they are, the number of threads, the children."""
    descriptors = []
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors.append(os.readlink(f"/proc/self/fd/{name}").partition(":")[0])
        except OSError:
            continue
    children = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[1]) == os.getpid():
                children.append(int(name))
    return sorted(descriptors), threading.active_count(), children


async def test_fifty_openings_leave_as_much_as_five() -> None:
    censuses = []
    for turn in range(ROUNDS):
        async with local() as here:
            if turn % 4 == 0:
                await here.run("echo x; sleep 300 >/dev/null 2>&1 &", stdin=b"x")
            elif turn % 4 == 1:
                with anyio.move_on_after(0.001):
                    await here.session.execute(execution("sleep 300"), Recorder())
        if turn in (5, ROUNDS - 1):
            censuses.append(_census())
    (early, threads, children), (late, threads_late, children_late) = censuses
    assert late == early
    assert children_late == children == []
    assert threads_late <= threads  # those of earlier tests may have ended meanwhile
    assert zombies_of(os.getpid()) == []


async def test_the_guard_keeps_nothing_of_the_jobs_that_it_ran() -> None:
    async with local() as here:

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{here.guard_pid}/fd"))

        def resident() -> int:
            return int(Path(f"/proc/{here.guard_pid}/statm").read_text().split()[1])

        async def some(count: int) -> None:
            for turn in range(count):
                await here.run(["true", "x" * 20_000], stdin=b"x" * turn)
                await here.run("sleep 300 >/dev/null 2>&1 & exit 0")
                with anyio.move_on_after(0):
                    await here.session.execute(execution("true"), Recorder())

        await some(5)
        before = descriptors(), resident()
        await some(100)
        assert descriptors() == before[0]
        assert resident() - before[1] < 512  # pages


async def test_a_provision_that_is_cancelled_leaves_no_guard() -> None:
    provider = LocalProvider()
    await provider.open(new_host())
    before = _census()
    for _ in range(3):
        with anyio.move_on_after(0.002) as scope:
            await provider.provision(WorkerId("w"))
        assert scope.cancelled_caught
        assert _census() == before
    await provider.close()
