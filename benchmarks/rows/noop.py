"""Jobs that do nothing: what the library itself costs.

One thread does it all, so its CPU time is what a quiet machine would take.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import take_turns
from hodei_core import Execution, Hodei, Output
from hodei_core.backends.memory import MemoryProvider

_SLOTS = 64
_FIRST, _END = 5_000, 16_000
_FLOOR = f"an asyncio.Queue, {_SLOTS} tasks and a future for each job"


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(128 if quick else 12_800, 1 if quick else 5))


async def _measure(jobs: int, rounds: int) -> list[Figure]:
    async with Hodei(providers=[MemoryProvider(_nothing, slots=_SLOTS)]) as hodei:

        async def callers(count: int) -> None:
            for _ in range(count):
                assert (await hodei.run(("true",))).ok

        async def in_turn() -> float:
            """Return the CPU seconds of jobs run by as many callers as there are slots."""
            began = time.process_time()
            await asyncio.gather(*(callers(jobs // _SLOTS) for _ in range(_SLOTS)))
            return time.process_time() - began

        async def at_once() -> float:
            """Return the CPU seconds of jobs submitted together, to the end of the last."""
            began = time.process_time()
            handles = await hodei.submit_many(("true",) for _ in range(jobs))
            await hodei.join()
            taken = time.process_time() - began
            assert (await handles[0].wait()).ok
            return taken

        async def floor() -> float:
            began = time.process_time()
            await _bare(jobs)
            return time.process_time() - began

        await in_turn()
        results = await take_turns(rounds, floor, in_turn, at_once)
    figures = []
    for place, (name, what) in enumerate(_KINDS.items(), 1):
        cost = results.difference(place, 0) / jobs
        figures.append(
            Figure(
                name=name,
                what=what,
                unit="jobs/s of CPU",
                floor_is=_FLOOR,
                floor=jobs / results.median(0),
                ours=jobs / results.median(place),
                judged=Judged.OURS,
                value=jobs / results.median(place),
                first=_FIRST,
                end=_END,
                more_is_better=True,
                note=f"{cost * 1e6:.0f} us of our own a job",
            )
        )
    return figures


_KINDS = {
    "noop.run": f"no-op jobs on {_SLOTS} slots, {_SLOTS} callers of run()",
    "noop.submit_many": f"no-op jobs on {_SLOTS} slots, submitted together, then join()",
}


async def _nothing(execution: Execution, output: Output) -> None:
    del execution, output


async def _bare(jobs: int) -> None:
    queue: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()

    async def work() -> None:
        while True:
            done = await queue.get()
            done.set_result(0)

    async def ask(count: int) -> None:
        for _ in range(count):
            done = asyncio.get_running_loop().create_future()
            queue.put_nowait(done)
            assert await done == 0

    workers = [asyncio.create_task(work()) for _ in range(_SLOTS)]
    await asyncio.gather(*(ask(jobs // _SLOTS) for _ in range(_SLOTS)))
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


ROW = Row("noop", "no-op jobs on MemoryProvider, 64 slots", measure)
