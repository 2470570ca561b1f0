"""How long the event loop is held while jobs and a log pass."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.figures import Figure, Judged, Row
from benchmarks.flood import LINE_BYTES, flood
from benchmarks.machine import RunQueue
from hodei_core import Hodei
from hodei_core.backends.local import LocalProvider

_BEAT = 0.001
_CALLERS = 16
_IDLE_SECONDS = 1.0
_BUSY = """
import os
while os.getppid() == {parent}:
    for _ in range(100_000):
        pass
"""


@dataclass(frozen=True)
class Worst:
    """The longest time between two beats, less the pause between them; seconds."""

    seen: float
    """As an application sees it."""

    held: float
    """Less the time in which the machine had given the CPU to others."""

    ours: float
    """Less the pauses of the garbage collector, too."""


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Figure]:
    jobs, lines, rounds = (20, 2_000, 1) if quick else (1_000, 1_000_000, 3)
    pause = 0.1 if quick else _IDLE_SECONDS
    idle: list[Worst] = []
    crowded: list[Worst] = []
    passing: list[Worst] = []
    batch: list[Worst] = []
    with flood(lines) as command:
        async with Hodei(providers=[LocalProvider(slots=8)]) as hodei:

            async def callers(count: int) -> None:
                for _ in range(count):
                    assert (await hodei.run(("true",))).ok

            async def read() -> None:
                count = 0
                job = await hodei.submit(command)
                async for entries in job.logs().batches():
                    count += len(entries)
                assert count == lines

            async def pass_by() -> None:
                each = jobs // _CALLERS
                await asyncio.gather(read(), *(callers(each) for _ in range(_CALLERS)))

            async def submit_many() -> None:
                await hodei.submit_many(("true",) for _ in range(jobs))
                await hodei.join()

            await callers(1)
            for _ in range(rounds):
                idle.append(await beside(lambda: asyncio.sleep(pause)))
                with _neighbours(2):
                    crowded.append(await beside(lambda: asyncio.sleep(pause)))
                passing.append(await beside(pass_by))
                batch.append(await beside(submit_many))
    size = f"{lines * LINE_BYTES // 1_000_000} MB"
    passes = f"{jobs:,} process jobs of {_CALLERS} callers and a log of {size} pass"
    machine = (
        f"an idle loop {in_ms(idle)} ms, beside busy processes on every CPU {in_ms(crowded)} ms"
    )
    return [
        *figures("loop.passing", passes, passing, idle, machine),
        *figures(
            "loop.submit_many",
            f"{jobs:,} process jobs submitted together pass",
            batch,
            idle,
            machine,
        ),
    ]


def figures(
    name: str, what: str, worst: list[Worst], idle: list[Worst], machine: str
) -> list[Figure]:
    def figure(name: str, how: str, values: list[float], note: str) -> Figure:
        value = statistics.median(values) * 1e3
        return Figure(
            name=name,
            what=f"the longest time that the event loop is held while {what}, {how}",
            unit="ms",
            floor_is="the same heartbeat on an idle loop",
            floor=statistics.median(one.held for one in idle) * 1e3,
            ours=value,
            judged=Judged.OURS,
            value=value,
            first=30.0,
            end=10.0,
            note=note,
        )

    return [
        figure(
            name,
            "the collector's pauses included, waits for a CPU not",
            [one.held for one in worst],
            f"as an application saw it {in_ms(worst)} ms; {machine}",
        ),
        figure(f"{name}.ours", "without the collector's pauses", [one.ours for one in worst], ""),
    ]


def in_ms(worst: list[Worst]) -> str:
    return " / ".join(f"{one.seen * 1e3:.1f}" for one in worst)


async def beside(work: Callable[[], Awaitable[object]]) -> Worst:
    """Return the worst beat of a heart that beats while `work` is done."""
    task = asyncio.create_task(_heart())
    await asyncio.sleep(0)
    try:
        await work()
        await asyncio.sleep(2 * _BEAT)
    finally:
        task.cancel()
    return await task


async def _heart() -> Worst:
    queue, collector = RunQueue(), _Collector()
    gc.callbacks.append(collector)
    seen = held = ours = 0.0
    try:
        while True:
            began, waited, paused = time.perf_counter(), queue.seconds(), collector.seconds
            await asyncio.sleep(_BEAT)
            late = time.perf_counter() - began - _BEAT
            seen = max(seen, late)
            late -= queue.seconds() - waited
            held = max(held, late)
            ours = max(ours, late - (collector.seconds - paused))
    except asyncio.CancelledError:
        return Worst(seen, held, ours)
    finally:
        gc.callbacks.remove(collector)
        queue.close()


class _Collector:
    """How long the garbage collector has held this thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        del info
        now = time.perf_counter()
        if phase == "start":
            self._began = now
        else:
            self.seconds += now - self._began


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    """Keep so many processes busy; they end when this one does."""
    program = _BUSY.format(parent=os.getpid())
    busy = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


ROW = Row("loop", "event loop held by us, worst, 1,000 jobs and a log of 100 MB", measure)
