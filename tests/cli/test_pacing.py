"""A slow reader of the program's output holds the job back and loses nothing."""

from __future__ import annotations

import anyio

from hodei_core import Execution, Hodei, JobState, Output
from hodei_core.backends.memory import MemoryProvider
from hodei_core.cli.pacing import Pace, PacedProvider

LINE = b"x" * 999 + b"\n"
LINES = 5_000


async def test_a_job_is_never_far_ahead_of_what_was_printed() -> None:
    written = printed = ahead = 0

    async def handler(execution: Execution, output: Output) -> None:
        nonlocal written, ahead
        for _ in range(LINES):
            await output.write(LINE)
            written += 1
            ahead = max(ahead, written - printed)

    pace = Pace()
    async with Hodei(providers=[PacedProvider(MemoryProvider(handler), pace)]) as hodei:
        job = await hodei.submit("x")
        async for entries in job.logs().batches():
            await anyio.wait_all_tasks_blocked()
            printed += len(entries)
            pace.printed(entries)
        assert (await job.wait()).state is JobState.SUCCEEDED
    assert printed == LINES
    assert ahead * len(LINE) <= 1024 * 1024 + len(LINE)


async def test_a_job_whose_output_is_printed_no_more_runs_on() -> None:
    async def handler(execution: Execution, output: Output) -> None:
        for _ in range(LINES):
            await output.write(LINE)

    pace = Pace()
    async with Hodei(providers=[PacedProvider(MemoryProvider(handler), pace)]) as hodei:
        job = await hodei.submit("x")
        async for _ in job.logs():
            break
        await anyio.wait_all_tasks_blocked()
        assert not (await job.snapshot()).state.is_final
        pace.lift()
        with anyio.fail_after(10):
            assert (await job.wait()).ok


async def test_lost_lines_are_no_debt() -> None:
    from datetime import datetime, timezone

    from hodei_core import JobId, LogEntry, LogSource

    pace = Pace()
    pace.add(10 * 1024 * 1024)
    assert not pace.room
    gap = LogEntry(
        job_id=JobId("x"),
        attempt=1,
        seq=7,
        at=datetime(2020, 1, 1, tzinfo=timezone.utc),
        source=LogSource.SYSTEM,
        data=b"",
        lost=7,
    )
    pace.printed([gap])
    assert pace.room
