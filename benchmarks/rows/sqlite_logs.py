"""A log written to a file and followed by one reader, beside the same in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from benchmarks.figures import Figure, Judged, Row
from benchmarks.flood import LINE_BYTES, flood
from benchmarks.machine import peak_mib, reset_peak
from benchmarks.rounds import take_turns
from benchmarks.stores import new_files
from hodei_core import Hodei
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.memory import MemoryStore
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ports import Store


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(2_000 if quick else 1_000_000, 1 if quick else 3))


async def _measure(lines: int, rounds: int) -> list[Figure]:
    with flood(lines) as command, new_files() as new_file:

        async def followed(make: Callable[[], Store]) -> float:
            """Return how many MB a second a reader has of a job that prints."""
            async with Hodei(make(), providers=[LocalProvider(slots=1)]) as hodei:
                assert (await hodei.run("true")).ok
                began = time.perf_counter()
                job = await hodei.submit(command)
                count = 0
                async for batch in job.logs().batches():
                    count += len(batch)
                assert count == lines
                return count * LINE_BYTES / (time.perf_counter() - began) / 1e6

        def in_file(kind: str) -> Store:
            return SqliteStore(new_file(), synchronous="FULL" if kind == "full" else "NORMAL")

        await followed(MemoryStore)
        reset_peak()
        results = await take_turns(
            rounds,
            lambda: followed(MemoryStore),
            lambda: followed(lambda: in_file("normal")),
            lambda: followed(lambda: in_file("full")),
        )
    size = f"{lines * LINE_BYTES / 1e6:g} MB"
    return [
        Figure(
            name=f"sqlite_logs.{kind}",
            what=f"a log of {size} written and followed by one reader, SQLite {kind.upper()}",
            unit="MB/s",
            floor_is="the same with a memory store",
            floor=results.median(0),
            ours=results.median(place),
            judged=Judged.RATIO,
            value=results.ratio(place, 0),
            first=0.5,
            end=0.5,
            more_is_better=True,
            note=f"peak of resident memory {peak_mib():.0f} MiB",
        )
        for place, kind in enumerate(("normal", "full"), 1)
    ]


ROW = Row("sqlite_logs", "a log of 100 MB written to SQLite and followed by one reader", measure)
