"""From a cancel until the process tree is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time

from benchmarks.bare import ended, readable
from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import percentile
from hodei_core import Hodei, JobState
from hodei_core.backends.local import LocalProvider

_TREE = ("sh", "-c", "sleep 60 & sleep 60 & echo up; wait")
_PAUSE = 0.002


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(5 if quick else 250))


async def _measure(trees: int) -> list[Figure]:
    floor: list[float] = []
    ours: list[float] = []
    async with Hodei(providers=[LocalProvider()]) as hodei:
        for _ in range(trees):
            floor.append(await _bare())
            job = await hodei.submit(_TREE)
            async for _ in job.logs():
                break
            await asyncio.sleep(_PAUSE)
            began = time.perf_counter()
            result = await job.cancel()
            ours.append(time.perf_counter() - began)
            assert result.state is JobState.CANCELLED
    return [
        _figure(share, percentile(floor, share / 100) * 1e3, percentile(ours, share / 100) * 1e3)
        for share in (50, 99)
    ]


def _figure(share: int, floor: float, ours: float) -> Figure:
    return Figure(
        name=f"cancel.p{share}",
        what=f"from cancel() to its return, of a shell with two children, p{share}",
        unit="ms",
        floor_is="SIGTERM to a bare group of the same, until nothing of it is left",
        floor=floor,
        ours=ours,
        judged=Judged.RATIO,
        value=ours / floor,
        end=2.0,
    )


async def _bare() -> float:
    """Return the seconds that ending a bare process group takes.

    All of it holds the pipe, whose end tells that nothing is left.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    shell = shutil.which(_TREE[0])
    assert shell is not None
    pid = os.posix_spawn(  # noqa: ASYNC221 - the floor
        shell, _TREE, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)], setsid=True
    )
    os.close(writing)
    await readable(reading)
    assert os.read(reading, 100) == b"up\n"
    await asyncio.sleep(_PAUSE)
    began = time.perf_counter()
    os.killpg(pid, signal.SIGTERM)
    status = await ended(pid)
    await readable(reading)
    assert os.read(reading, 100) == b""
    taken = time.perf_counter() - began
    assert os.WTERMSIG(status) == signal.SIGTERM
    os.close(reading)
    return taken


ROW = Row("cancel", "cancel to process tree gone", measure)
