"""What an open Hodei burns when nothing is to be done."""

from __future__ import annotations

import asyncio
import os
import time

from benchmarks.figures import Figure, Judged, Row
from benchmarks.machine import children, cpu_seconds
from hodei_core import Hodei


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(0.5 if quick else 10.0))


async def _measure(seconds: float) -> list[Figure]:
    await burned([os.getpid()], 0.1)  # what is done once
    bare = await burned([os.getpid()], seconds / 5)
    async with Hodei() as hodei:
        assert (await hodei.run("true")).ok
        await asyncio.sleep(min(seconds, 1.0))  # what the start left to be done
        pids = [os.getpid(), *children()]
        assert len(pids) == 2, "the host and its guard"
        used = await burned(pids, seconds)
    return [
        Figure(
            name="idle",
            what=f"CPU of host and guard together over {seconds:g} s without a job",
            unit="% of a core",
            floor_is="an asyncio loop that sleeps",
            floor=bare * 100,
            ours=used * 100,
            judged=Judged.OURS,
            value=used * 100,
            first=0.2,
            end=0.1,
        )
    ]


async def burned(pids: list[int], seconds: float) -> float:
    """Return the share of a core that processes use while this one sleeps."""
    began, before = time.monotonic(), sum(map(cpu_seconds, pids))
    await asyncio.sleep(seconds)
    return (sum(map(cpu_seconds, pids)) - before) / (time.monotonic() - began)


ROW = Row("idle", "idle CPU of host and guard, over 10 s", measure)
