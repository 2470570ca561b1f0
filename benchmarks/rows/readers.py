"""Many readers of one live log."""

from __future__ import annotations

import asyncio
import time

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import Measure, take_turns
from hodei_core import Execution, Hodei, JobHandle, Output
from hodei_core.backends.memory import MemoryProvider

_CHUNK = b"".join(b"%099d\n" % number for number in range(100))
_LINES = 100  # in a chunk
_READERS = (1, 10, 100, 1_000)
_SAME_WORK = 100_000  # entries delivered in a measure of few readers: several logs


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(2 if quick else 20, 1 if quick else 3, quick))


async def _measure(chunks: int, rounds: int, quick: bool) -> list[Figure]:
    go = asyncio.Event()

    async def write(execution: Execution, output: Output) -> None:
        del execution
        await go.wait()
        for _ in range(chunks):
            await output.write(_CHUNK)
            await asyncio.sleep(0)

    async def read(job: JobHandle) -> None:
        count = 0
        async for _ in job.logs():
            count += 1
        assert count == chunks * _LINES

    async with Hodei(providers=[MemoryProvider(write)]) as hodei:

        def cost(readers: int) -> Measure:
            """Return what measures the CPU seconds of an entry that is delivered."""
            entries = readers * chunks * _LINES
            times = 1 if quick else max(_SAME_WORK // entries, 1)

            async def cpu() -> float:
                began = time.process_time()
                for _ in range(times):
                    go.clear()
                    job = await hodei.submit("write")
                    tasks = [asyncio.create_task(read(job)) for _ in range(readers)]
                    await asyncio.sleep(0)
                    go.set()
                    await asyncio.gather(*tasks)
                return (time.process_time() - began) / (times * entries)

            return cpu

        results = await take_turns(rounds, *map(cost, _READERS))
    return [
        Figure(
            name=f"readers.{readers}",
            what=f"CPU time of an entry delivered to one of {readers:,} readers of a live log",
            unit="us",
            floor_is="one reader of the same log",
            floor=results.median(0) * 1e6,
            ours=results.median(place) * 1e6,
            judged=Judged.RATIO,
            value=results.ratio(place, 0),
            first=1.0,
            end=1.0,
        )
        for place, readers in enumerate(_READERS)
        if readers > 1
    ]


ROW = Row("readers", "1 to 1,000 readers of one log", measure)
