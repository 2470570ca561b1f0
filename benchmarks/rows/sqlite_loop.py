"""How long the event loop is held while jobs pass through a file."""

from __future__ import annotations

import asyncio

from benchmarks.figures import Figure, Row
from benchmarks.rows.loop import Worst, beside, figures, in_ms
from benchmarks.stores import new_files
from hodei_core import Hodei
from hodei_core.backends.local import LocalProvider

_CALLERS = 16


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Figure]:
    jobs, rounds, pause = (20, 1, 0.1) if quick else (1_000, 3, 1.0)
    idle: list[Worst] = []
    passing: list[Worst] = []
    batch: list[Worst] = []
    with new_files() as new_file:
        async with Hodei(new_file(), providers=[LocalProvider(slots=8)]) as hodei:

            async def callers(count: int) -> None:
                for _ in range(count):
                    assert (await hodei.run(("true",))).ok

            async def pass_by() -> None:
                await asyncio.gather(*(callers(jobs // _CALLERS) for _ in range(_CALLERS)))

            async def submit_many() -> None:
                await hodei.submit_many(("true",) for _ in range(jobs))
                await hodei.join()

            await callers(1)
            for _ in range(rounds):
                idle.append(await beside(lambda: asyncio.sleep(pause)))
                passing.append(await beside(pass_by))
                batch.append(await beside(submit_many))
    machine = f"an idle loop {in_ms(idle)} ms"
    return [
        *figures(
            "sqlite_loop.passing",
            f"{jobs:,} process jobs of {_CALLERS} callers pass through SQLite",
            passing,
            idle,
            machine,
        ),
        *figures(
            "sqlite_loop.submit_many",
            f"{jobs:,} process jobs submitted together pass through SQLite",
            batch,
            idle,
            machine,
        ),
    ]


ROW = Row("sqlite_loop", "event loop held by us, worst, 1,000 jobs through SQLite", measure)
