"""Submissions alone: a client of a file that a hundred tasks submit to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bare_sqlite import Statement, accepted, replay
from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import take_turns
from benchmarks.stores import Synchronous, new_files
from hodei_core import Hodei
from hodei_core.backends.sqlite import SqliteStore

_KINDS: tuple[Synchronous, ...] = ("NORMAL", "FULL")
_TASKS = 100


def measure(quick: bool) -> list[Figure]:
    jobs, rounds = (_TASKS, 1) if quick else (10_000, 5)
    with new_files() as new_file:
        statements = accepted(new_file().parent, jobs)
        return [asyncio.run(_at(kind, jobs, statements, rounds, new_file)) for kind in _KINDS]


async def _at(
    kind: Synchronous,
    jobs: int,
    statements: list[Statement],
    rounds: int,
    new_file: Callable[[], Path],
) -> Figure:
    cpu: list[float] = []

    async def floor() -> float:
        return jobs / replay(new_file(), kind, statements)

    async def ours() -> float:
        async with Hodei(SqliteStore(new_file(), synchronous=kind), providers=[]) as hodei:

            async def submitter() -> None:
                for _ in range(jobs // _TASKS):
                    await hodei.submit(("true",))

            began, before = time.perf_counter(), time.process_time()
            await asyncio.gather(*(submitter() for _ in range(_TASKS)))
            cpu.append((time.process_time() - before) / jobs)
            return jobs / (time.perf_counter() - began)

    await ours()
    cpu.clear()
    results = await take_turns(rounds, floor, ours)
    cost = sum(cpu) / len(cpu)
    return Figure(
        name=f"sqlite_submit.{kind.lower()}",
        what=f"submit() alone from {_TASKS} tasks, SQLite {kind}",
        unit="jobs/s",
        floor_is="bare sqlite3, the same inserts, 100 a commit",
        floor=results.median(0),
        ours=results.median(1),
        judged=Judged.OURS,
        value=results.median(1),
        first=5_000,
        end=10_000,
        more_is_better=True,
        note=(
            f"{results.ratio(1, 0):.2f} of the floor; "
            f"{cost * 1e6:.0f} us of CPU a job, in all threads"
        ),
    )


ROW = Row("sqlite_submit", "submit alone from 100 tasks into a SQLite store", measure)
