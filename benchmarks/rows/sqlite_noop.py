"""Jobs that do nothing, kept in a file: accepted, assigned and ended, each stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bare_sqlite import Statement, lived, replay
from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import take_turns
from benchmarks.stores import Synchronous, new_files
from hodei_core import Execution, Hodei, Output
from hodei_core.backends.memory import MemoryProvider
from hodei_core.backends.sqlite import SqliteStore

_KINDS: tuple[Synchronous, ...] = ("NORMAL", "FULL")
_JOBS = {8: 1_000, 64: 3_200, 512: 5_120}
"""By how many are in flight."""

_TARGETS: dict[tuple[int, Synchronous], tuple[Judged, float | None, float]] = {
    (8, "NORMAL"): (Judged.OURS, 2_000, 5_000),
    (8, "FULL"): (Judged.OURS, None, 2_500),
    (512, "NORMAL"): (Judged.RATIO, None, 0.2),
    (512, "FULL"): (Judged.RATIO, None, 0.2),
}


def measure(quick: bool) -> list[Figure]:
    figures = []
    with new_files() as new_file:
        for in_flight, jobs in _JOBS.items():
            count = in_flight if quick else jobs
            statements = lived(new_file().parent, count)
            for kind in _KINDS:
                rounds = 1 if quick else 3
                figures.append(
                    asyncio.run(_at(in_flight, count, kind, statements, rounds, new_file))
                )
    return figures


async def _at(
    in_flight: int,
    jobs: int,
    kind: Synchronous,
    statements: list[Statement],
    rounds: int,
    new_file: Callable[[], Path],
) -> Figure:
    cpu: list[float] = []

    async def floor() -> float:
        return jobs / replay(new_file(), kind, statements)

    async with Hodei(
        SqliteStore(new_file(), synchronous=kind),
        providers=[MemoryProvider(_nothing, slots=in_flight)],
    ) as hodei:

        async def callers(count: int) -> None:
            for _ in range(count):
                assert (await hodei.run(("true",))).ok

        async def ours() -> float:
            began, before = time.perf_counter(), time.process_time()
            await asyncio.gather(*(callers(jobs // in_flight) for _ in range(in_flight)))
            cpu.append((time.process_time() - before) / jobs)
            return jobs / (time.perf_counter() - began)

        await ours()
        cpu.clear()
        results = await take_turns(rounds, floor, ours)
    judged, first, end = _TARGETS.get((in_flight, kind), (Judged.RATIO, None, None))
    ratio = results.ratio(1, 0)
    cost = sum(cpu) / len(cpu)
    return Figure(
        name=f"sqlite_noop.{kind.lower()}.{in_flight}",
        what=f"no-op jobs by {in_flight} callers of run() on as many slots, SQLite {kind}",
        unit="jobs/s",
        floor_is="bare sqlite3, the same statements, 100 jobs a commit",
        floor=results.median(0),
        ours=results.median(1),
        judged=judged,
        value=ratio if judged is Judged.RATIO else results.median(1),
        first=first,
        end=end,
        more_is_better=True,
        note=f"{ratio:.2f} of the floor; {cost * 1e6:.0f} us of CPU a job, in all threads",
    )


async def _nothing(execution: Execution, output: Output) -> None:
    del execution, output


ROW = Row("sqlite_noop", "no-op jobs in a SQLite store, 8, 64 and 512 in flight", measure)
