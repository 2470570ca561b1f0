"""Process jobs: `true`, both its pipes read to their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import Measure, take_turns
from hodei_core import Hodei
from hodei_core.backends.local import LocalProvider
from hodei_core.ports import Store

_TARGETS = {2: (0.7, 1.1), 8: (0.7, 1.15)}


def measure(quick: bool) -> list[Figure]:
    return [
        asyncio.run(measured(f"processes.{slots}", slots, quick, targets=targets))
        for slots, targets in _TARGETS.items()
    ]


async def measured(
    name: str,
    slots: int,
    quick: bool,
    *,
    targets: tuple[float, float],
    store: Store | None = None,
    where: str = "memory store",
) -> Figure:
    """Measure process jobs on so many slots, kept in a store."""
    jobs, rounds = (20, 1) if quick else (500, 7)
    async with Hodei(store, providers=[LocalProvider(slots=slots)]) as hodei:

        async def ours() -> None:
            result = await hodei.run(("true",))
            assert result.exit_code == 0

        places = asyncio.Semaphore(slots)

        async def floor() -> None:
            async with places:
                await _bare()

        await _rate(jobs // 4, ours)()
        results = await take_turns(rounds, _rate(jobs, floor), _rate(jobs, ours))
    first, end = targets
    return Figure(
        name=name,
        what=f"`true` as argv on {slots} slots, {where}",
        unit="jobs/s",
        floor_is="asyncio.create_subprocess_exec and communicate() under a semaphore",
        floor=results.median(0),
        ours=results.median(1),
        judged=Judged.RATIO,
        value=results.ratio(1, 0),
        first=first,
        end=end,
        more_is_better=True,
    )


async def _bare() -> None:
    process = await asyncio.create_subprocess_exec(
        "true",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.communicate()
    assert process.returncode == 0


def _rate(jobs: int, one: Callable[[], Awaitable[None]]) -> Measure:
    """Return what measures how many a second, `jobs` of them asked for at once."""

    async def rate() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(jobs)))
        return jobs / (time.perf_counter() - began)

    return rate


ROW = Row("processes", "process jobs on 2 and 8 slots", measure)
