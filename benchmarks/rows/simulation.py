"""What an hour of virtual time costs: jobs that wait, run, fail and are tried again."""

from __future__ import annotations

import time

import anyio

from benchmarks.figures import Figure, Judged, Row
from hodei_core import Backoff, Execution, Hodei, JobRetried, Output, RetryPolicy
from hodei_core.backends.memory import MemoryProvider
from hodei_core.testing import capture_events, run_simulated

_JOBS = 100
_HOUR = 3600.0
_SLOTS = 4
_POLICY = RetryPolicy(max_attempts=3, backoff=Backoff(first=60))


def measure(quick: bool) -> list[Figure]:
    jobs = 5 if quick else _JOBS
    rounds = 1 if quick else 7
    spread = sorted(_seconds(jobs, busy=False) for _ in range(rounds))
    queued = sorted(_seconds(jobs, busy=True) for _ in range(rounds))
    floor = sorted(_sleep() for _ in range(rounds))
    return [
        Figure(
            name=name,
            what=f"real time of a virtual hour, {jobs} jobs, {what}",
            unit="s",
            floor_is="trio's MockClock passes that hour in steps of half a second",
            floor=floor[rounds // 2],
            ours=taken[rounds // 2],
            judged=Judged.OURS,
            value=taken[rounds // 2],
            first=1.0,
            end=1.0,
            note=f"{_SLOTS} slots; every fifth job fails once",
        )
        for name, what, taken in (
            ("simulation.spread", "submitted by and by", spread),
            ("simulation.queued", "submitted together: most wait", queued),
        )
    ]


def _seconds(jobs: int, *, busy: bool) -> float:
    began = time.perf_counter()
    retried = run_simulated(_hour, jobs, busy)
    assert retried == jobs // 5
    return time.perf_counter() - began


async def _hour(jobs: int, busy: bool) -> int:
    """Have the jobs take an hour, all slots in use all the time if it is a busy one."""
    seconds = _HOUR * _SLOTS / jobs / (6 / 5) * (1 if busy else 0.8)

    async def work(execution: Execution, output: Output) -> int:
        await output.write("working\n")
        await anyio.sleep(seconds)
        fails = str(execution.spec.command).endswith(("0", "5"))
        return int(fails and execution.attempt == 1)

    async with Hodei(providers=[MemoryProvider(work, slots=_SLOTS)], stuck_after=None) as hodei:
        async with capture_events(hodei, JobRetried) as retried:
            for number in range(jobs):
                await hodei.submit(f"job {number}", timeout=_HOUR, retry=_POLICY)
                if not busy:
                    await anyio.sleep(_HOUR / jobs)
            await hodei.join()
    assert anyio.current_time() > 0.9 * _HOUR
    return len(retried)


def _sleep() -> float:
    async def steps() -> None:
        for _ in range(int(_HOUR * 2)):
            await anyio.sleep(0.5)

    began = time.perf_counter()
    run_simulated(steps)
    return time.perf_counter() - began


ROW = Row("simulation", "an hour of virtual time, 100 jobs", measure)
