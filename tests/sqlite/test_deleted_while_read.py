"""A log whose beginning is deleted while it is read: the reader is told of it, never skips it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from hodei_core import Hodei, JobHandle, JobNotFoundError, LogSource, OutputLostError, Retention
from hodei_core.backends.memory import MemoryProvider
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.executions import Execution, Output
from hodei_core.ids import JobId
from hodei_core.logs import LogSegment
from hodei_core.ports import Change, LogBounds, LogStore, Prune, Retain
from hodei_core.testing.contracts.samples import at

LINES = 3000
AGES = 10**9


class Deleting(SqliteStore):
    """Deletes just before a segment is read: what another host may do at any time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, retention=None)
        self.deletion: Change | None = None

    @property
    def logs(self) -> LogStore:
        return DeletingLogs(super().logs, self._delete)

    async def _delete(self) -> None:
        deletion, self.deletion = self.deletion, None
        while deletion is not None and (await self.apply([deletion]))[0].more:
            continue


class DeletingLogs(LogStore):
    def __init__(self, logs: LogStore, delete: Callable[[], Awaitable[None]]) -> None:
        self._logs = logs
        self._delete = delete

    async def bounds(self, job_id: JobId) -> LogBounds:
        return await self._logs.bounds(job_id)

    async def read(self, job_id: JobId, *, after: int, max_bytes: int) -> list[LogSegment]:
        await self._delete()
        return await self._logs.read(job_id, after=after, max_bytes=max_bytes)

    async def read_back(self, job_id: JobId, *, before: int, max_bytes: int) -> list[LogSegment]:
        await self._delete()
        return await self._logs.read_back(job_id, before=before, max_bytes=max_bytes)


async def work(execution: Execution, output: Output) -> None:
    del execution
    for _ in range(LINES):
        await output.write(b"x" * 999 + b"\n")


async def printed(hodei: Hodei) -> JobHandle:
    job = await hodei.submit("print")
    await job.wait()
    return job


@pytest.mark.parametrize(
    "kept", [pytest.param(1_000_000, id="in part"), pytest.param(0, id="whole")]
)
@pytest.mark.parametrize("follow", [True, False], ids=["follow", "now"])
async def test_what_goes_while_it_is_read_is_one_gap(
    tmp_path: Path, *, kept: int, follow: bool
) -> None:
    store = Deleting(tmp_path / "jobs.db")
    with anyio.fail_after(20):
        async with Hodei(store, providers=[MemoryProvider(work)]) as hodei:
            job = await printed(hodei)
            store.deletion = Retain(Retention(max_log_bytes=kept), at(0))
            entries = [entry async for entry in job.logs(follow=follow)]
            (gap,) = [entry for entry in entries if entry.lost]
            assert gap.source is LogSource.SYSTEM
            seen = {entry.seq for entry in entries if not entry.lost}
            assert seen == set(range(1, LINES + 1)) - set(range(1, gap.seq + 1))
            assert gap.lost == gap.seq
            assert bool(seen) == bool(kept)


@pytest.mark.parametrize(
    "kept", [pytest.param(1_000_000, id="in part"), pytest.param(0, id="whole")]
)
async def test_output_that_goes_while_it_is_read_is_lost(tmp_path: Path, kept: int) -> None:
    store = Deleting(tmp_path / "jobs.db")
    with anyio.fail_after(20):
        async with Hodei(store, providers=[MemoryProvider(work)]) as hodei:
            job = await printed(hodei)
            store.deletion = Retain(Retention(max_log_bytes=kept), at(0))
            with pytest.raises(OutputLostError):
                await job.output()


async def test_a_result_whose_output_goes_while_it_is_read_is_truncated(tmp_path: Path) -> None:
    store = Deleting(tmp_path / "jobs.db")
    with anyio.fail_after(20):
        async with Hodei(store, providers=[MemoryProvider(work)]) as hodei:
            job = await printed(hodei)
            store.deletion = Retain(Retention(max_log_bytes=0), at(0))
            result = await job.wait()
            assert (result.stdout, result.truncated) == ("", True)


@pytest.mark.parametrize("follow", [True, False], ids=["follow", "now"])
async def test_a_job_that_goes_while_its_log_is_read_is_not_found(
    tmp_path: Path, *, follow: bool
) -> None:
    store = Deleting(tmp_path / "jobs.db")
    with anyio.fail_after(20):
        async with Hodei(store, providers=[MemoryProvider(work)]) as hodei:
            job = await printed(hodei)
            store.deletion = Prune(at(AGES))
            with pytest.raises(JobNotFoundError):
                async for _ in job.logs(follow=follow):
                    pass
