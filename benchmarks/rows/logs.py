"""A log of 100-byte lines into one reader, from a real process that prints as fast as it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks.figures import Figure, Judged, Row
from benchmarks.flood import LINE_BYTES, flood
from benchmarks.machine import peak_mib, reset_peak
from benchmarks.rounds import Measure, take_turns
from hodei_core import Hodei, JobHandle
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.memory import MemoryStore

_CHUNK = 64 * 1024
_REFERENCE = 5_200_000  # lines/s of the chunked read where the targets were set
_STORE_BYTES = 64 * 1024 * 1024
_CHUNKS_FLOOR = "a chunked read of the same pipe and a split"
_LINES_FLOOR = "asyncio's own readline() on the same pipe"


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(2_000 if quick else 1_000_000, 1 if quick else 3))


async def _measure(lines: int, rounds: int) -> list[Figure]:
    # A store that holds one whole log of this size: what it keeps is full after the first.
    store = MemoryStore(log_bytes=_STORE_BYTES)
    with flood(lines) as command:
        async with Hodei(store, providers=[LocalProvider(slots=1)]) as hodei:

            async def entries(job: JobHandle) -> int:
                count = 0
                async for _ in job.logs():
                    count += 1
                return count

            async def batches(job: JobHandle) -> int:
                count = 0
                async for batch in job.logs().batches():
                    count += len(batch)
                return count

            def ours(read: Callable[[JobHandle], Awaitable[int]]) -> Measure:
                async def rate() -> float:
                    began = time.perf_counter()
                    count = await read(await hodei.submit(command))
                    assert count == lines
                    return lines / (time.perf_counter() - began)

                return rate

            await ours(batches)()
            before = peak_mib()
            reset_peak()
            results = await take_turns(
                rounds,
                _bare(command, lines, _by_chunk),
                _bare(command, lines, _by_line),
                ours(entries),
                ours(batches),
            )
            after = peak_mib()

    def figure(name: str, how: str, floor: int, ours: int, first: float, end: float) -> Figure:
        return Figure(
            name=name,
            what=f"{lines:,} lines of {LINE_BYTES} bytes of a local job, read {how}",
            unit="lines/s",
            floor_is=_CHUNKS_FLOOR if floor == 0 else _LINES_FLOOR,
            floor=results.median(floor),
            ours=results.median(ours),
            judged=Judged.OURS,
            value=results.ratio(ours, 0) * _REFERENCE,
            first=first,
            end=end,
            more_is_better=True,
            note=(
                f"judged as on a machine whose chunked read makes {_REFERENCE:,} lines/s; "
                f"{results.ratio(ours, 0):.2f} of the chunked read, "
                f"{results.ratio(ours, 1):.2f} of readline()"
            ),
        )

    return [
        figure("logs.entries", "entry by entry", 1, 2, 0.4e6, 0.6e6),
        figure("logs.batches", "in batches", 0, 3, 0.8e6, 2e6),
        Figure(
            name="logs.memory",
            what=f"peak of resident memory while {2 * rounds} more such logs pass",
            unit="MiB",
            floor_is="the peak with the first, whose end fills the store's 64 MiB",
            floor=before,
            ours=after,
            judged=Judged.DIFFERENCE,
            value=after - before,
            note="flat if it grows by no more than the collector's mood",
        ),
    ]


def _bare(
    command: tuple[str, ...], lines: int, read: Callable[[asyncio.StreamReader], Awaitable[int]]
) -> Measure:
    async def rate() -> float:
        began = time.perf_counter()
        async with _process(command) as stdout:
            assert await read(stdout) == lines
        return lines / (time.perf_counter() - began)

    return rate


@asynccontextmanager
async def _process(command: tuple[str, ...]) -> AsyncIterator[asyncio.StreamReader]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    yield process.stdout
    assert await process.wait() == 0


async def _by_chunk(stdout: asyncio.StreamReader) -> int:
    count = 0
    rest = b""
    while data := await stdout.read(_CHUNK):
        found = (rest + data).split(b"\n")
        rest = found.pop()
        count += len(found)
    return count


async def _by_line(stdout: asyncio.StreamReader) -> int:
    count = 0
    while await stdout.readline():
        count += 1
    return count


ROW = Row("logs", "log lines of 100 bytes into one reader", measure)
