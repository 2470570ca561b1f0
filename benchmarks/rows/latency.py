"""An idle library: from submit until the exit is known."""

from __future__ import annotations

import asyncio
import os
import shutil
import time

from benchmarks.bare import ended
from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import percentile
from hodei_core import Hodei
from hodei_core.backends.local import LocalProvider

_PAUSE = 0.002  # seconds in which everybody comes to rest
_TARGETS = {50: (1.0, 0.2), 99: (5.0, 1.0)}


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(30 if quick else 1_500))


async def _measure(jobs: int) -> list[Figure]:
    program = shutil.which("true")
    assert program is not None
    floor: list[float] = []
    ours: list[float] = []
    async with Hodei(providers=[LocalProvider()]) as hodei:
        for _ in range(jobs):
            await asyncio.sleep(_PAUSE)
            began = time.perf_counter()
            await _bare(program)
            floor.append(time.perf_counter() - began)
            await asyncio.sleep(_PAUSE)
            began = time.perf_counter()
            result = await hodei.run((program,))
            ours.append(time.perf_counter() - began)
            assert result.exit_code == 0
    return [_figure(share, floor, ours) for share in _TARGETS]


def _figure(share: int, floor: list[float], ours: list[float]) -> Figure:
    first, end = _TARGETS[share]
    least, taken = percentile(floor, share / 100) * 1e3, percentile(ours, share / 100) * 1e3
    return Figure(
        name=f"latency.p{share}",
        what=f"one `true` at a time, from run() to its result, p{share}",
        unit="ms",
        floor_is="posix_spawn and a wait for its pidfd in the same loop",
        floor=least,
        ours=taken,
        judged=Judged.DIFFERENCE,
        value=taken - least,
        first=first,
        end=end,
    )


async def _bare(program: str) -> None:
    pid = os.posix_spawn(  # noqa: ASYNC221 - the floor
        program, [program], os.environ, setsid=True
    )
    assert await ended(pid) == 0


ROW = Row("latency", "idle: submit to exit known", measure)
