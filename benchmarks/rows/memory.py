"""What a pending job takes in the memory store, besides its spec."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from benchmarks.figures import Figure, Judged, Row
from hodei_core import Execution, Hodei, JobSpec, Output
from hodei_core.backends.memory import MemoryProvider


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(1_000 if quick else 50_000))


async def _measure(jobs: int) -> list[Figure]:
    go = asyncio.Event()

    async def wait(execution: Execution, output: Output) -> None:
        del execution, output
        await go.wait()

    async with Hodei(providers=[MemoryProvider(wait)]) as hodei:
        await hodei.submit("the one that runs")
        await hodei.submit("the first that waits")
        tracemalloc.start()
        begin = _traced()
        specs = [JobSpec(f"echo {number}") for number in range(jobs)]
        with_specs = _traced()
        for spec in specs:
            await hodei.submit(spec)
        with_jobs = _traced()
        tracemalloc.stop()
        go.set()
        await hodei.drain()  # so that leaving ends what waits
    spec_bytes = (with_specs - begin) / jobs
    job_bytes = (with_jobs - with_specs) / jobs
    return [
        Figure(
            name="memory",
            what=f"memory of a pending job with its spec, of {jobs:,}",
            unit="bytes",
            floor_is="its JobSpec",
            floor=spec_bytes,
            ours=spec_bytes + job_bytes,
            judged=Judged.DIFFERENCE,
            value=job_bytes,
            first=1_200,
            end=600,
        )
    ]


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


ROW = Row("memory", "memory of a pending job", measure)
