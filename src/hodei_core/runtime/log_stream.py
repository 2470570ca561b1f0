"""Reading a job's log: live or from the store, from any number on, by any number of readers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from types import TracebackType

import anyio

from hodei_core.checks import whole_number
from hodei_core.compat import Self
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogEntry, LogSegment, LogSource
from hodei_core.ports import LogBounds
from hodei_core.runtime.log_buffer import LogBuffer

BATCH_ENTRIES = 1_000
"""The most entries of one batch."""

BATCH_BYTES = 1024 * 1024
"""The most data of one batch."""


class LogReader(ABC):
    """What a stream reads from: the buffers of this host, and the store behind them."""

    @abstractmethod
    def buffer(self, job_id: JobId) -> LogBuffer | None:
        """Return the buffer of a job that prints here, which knows more than the store."""

    @abstractmethod
    async def follow(self, job_id: JobId) -> LogBuffer | None:
        """Return a buffer that will be closed with the job; None if the job is final.

        Raises:
            JobNotFoundError: it is unknown.
            HodeiClosedError: the host has closed, and nothing more will come.
            HodeiBrokenError: the host broke.
        """

    @abstractmethod
    async def job(self, job_id: JobId) -> Job:
        """Return a job.

        Raises:
            JobNotFoundError: it is unknown.
        """

    @abstractmethod
    async def bounds(self, job_id: JobId) -> LogBounds:
        """Return which numbers are stored."""

    @abstractmethod
    async def read(self, job_id: JobId, after: int) -> list[LogSegment]:
        """Return stored segments with entries above `after`."""

    @abstractmethod
    async def read_back(self, job_id: JobId, before: int) -> list[LogSegment]:
        """Return stored segments that start below `before`, the last first."""


class LogStream:
    """An async iterator of a job's `LogEntry`, in order, ending when the job is final.

    It is only a cursor: it may be left anywhere, and being slow costs nobody else. What a
    reader could not be given any more is one entry of source SYSTEM whose `lost` counts it.
    `async with` is accepted and does nothing more.
    """

    def __init__(
        self,
        reader: LogReader,
        job_id: JobId,
        *,
        after: int = 0,
        tail: int | None = None,
        follow: bool = True,
        source: LogSource | None = None,
    ) -> None:
        _check(after, tail)
        self._reader = reader
        self._job_id = job_id
        self._cursor = after
        self._tail = tail
        self._follow = follow
        self._source = source
        self._begun = False
        self._until: int | None = None
        self._segments: Iterator[LogSegment] = iter(())
        self._lines: Iterator[tuple[int, bytes]] = iter(())
        self._segment: LogSegment | None = None
        self._ready: Iterator[LogEntry] = iter(())
        buffer = reader.buffer(job_id)
        self._last_at_call = None if buffer is None else buffer.last

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogEntry:
        entry = next(self._ready, None)
        if entry is None:
            self._ready = iter(await self._batch())
            entry = next(self._ready, None)
            if entry is None:
                raise StopAsyncIteration
        return entry

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def batches(self) -> AsyncIterator[list[LogEntry]]:
        """Return an async iterator over lists of entries: at most 1,000, or 1 MiB, each."""
        return _Batches(self)

    async def _next_batch(self) -> list[LogEntry]:
        waiting = list(self._ready)
        return waiting or await self._batch()

    async def _batch(self) -> list[LogEntry]:
        """Return the next entries, at least one; none at the end."""
        await anyio.sleep(0)
        if not self._begun:
            await self._begin()
        while True:
            batch = self._from_segments()
            if batch:
                return batch
            gap = await self._fetch()
            if gap is not None:
                return [gap]
            if self._segments is _END:
                return []

    def _from_segments(self) -> list[LogEntry]:
        """Return a batch of what was fetched, as far as it goes."""
        batch: list[LogEntry] = []
        size = 0
        while len(batch) < BATCH_ENTRIES and size < BATCH_BYTES:
            segment = self._segment
            if segment is None:
                segment = next(self._segments, None)
                if segment is None:
                    break
                if (
                    self._source not in (None, segment.source)
                    and segment.source is not LogSource.SYSTEM
                ):
                    self._cursor = segment.last_seq
                    continue
                self._lines = segment.lines(self._cursor)
            most = BATCH_ENTRIES - len(batch)
            entries = segment.make_entries(self._job_id, islice(self._lines, most))
            self._cursor = entries[-1].seq
            self._segment = segment if self._cursor < segment.last_seq else None
            size += len(segment.data)
            batch += entries
        return self._cut(batch)

    def _cut(self, batch: list[LogEntry]) -> list[LogEntry]:
        until = self._until
        if until is not None and batch and batch[-1].seq > until:
            return [entry for entry in batch if entry.seq <= until]
        return batch

    async def _begin(self) -> None:
        await self._reader.job(self._job_id)
        self._begun = True
        last = self._last_at_call
        if last is None:
            bounds = await self._reader.bounds(self._job_id)
            buffer = self._reader.buffer(self._job_id)
            last = bounds.last if buffer is None else buffer.last
        if not self._follow:
            self._until = last
        if self._tail is not None:
            self._cursor = await self._before_tail(self._tail, last)

    async def _before_tail(self, wanted: int, last: int) -> int:
        """Return the number before the last `wanted` entries of the source up to `last`."""
        before = last + 1
        if not wanted:
            return last
        while before > 1:
            buffer = self._reader.buffer(self._job_id)
            segments = buffer.read_back(before) if buffer is not None else []
            if not segments:
                segments = await self._reader.read_back(self._job_id, before)
            if not segments:
                break
            for segment in segments:
                if segment.source is LogSource.SYSTEM:
                    before = segment.first_seq
                    continue
                if self._source in (None, segment.source):
                    end = min(segment.last_seq, last)
                    count = end - segment.first_seq + 1
                    if wanted <= count:
                        return end - wanted
                    wanted -= count
                before = segment.first_seq
        return 0

    async def _fetch(self) -> LogEntry | None:
        """Get segments beyond the cursor, waiting for them if need be; or a gap; or the end."""
        if self._until is not None and self._cursor >= self._until:
            self._segments = _END
            return None
        buffer = self._reader.buffer(self._job_id)
        final = False
        while True:
            here = buffer is not None and self._cursor >= buffer.first - 1
            if buffer is not None and here:
                segments = buffer.read(self._cursor, BATCH_BYTES)
            else:
                gap = await self._gap(buffer)
                if gap is not None:
                    return gap
                segments = await self._reader.read(self._job_id, self._cursor)
            if segments and segments[0].first_seq <= self._cursor + 1:
                self._segments = iter(segments)
                return None
            if segments or final or not self._follow:
                if here:
                    self._segments = _END
                    return None
                return await self._end_or_gap(buffer, segments)
            if buffer is not None and not buffer.closed:
                await buffer.more()
            else:
                buffer = await self._reader.follow(self._job_id)
                final = buffer is None  # what was written until then is read once more

    async def _end_or_gap(
        self, buffer: LogBuffer | None, found: list[LogSegment]
    ) -> LogEntry | None:
        """Return a gap for what was deleted since the bounds were read; else it is the end."""
        gap = await self._gap(buffer, found)
        if gap is None:
            self._segments = _END
            if self._until is None or self._cursor < self._until:
                await self._reader.job(self._job_id)  # which may be gone altogether
        return gap

    async def _gap(
        self, buffer: LogBuffer | None, found: Sequence[LogSegment] = ()
    ) -> LogEntry | None:
        """Return what stands for the entries at the cursor that neither side holds any more.

        `found`: what the store had beyond them.
        """
        bounds = await self._reader.bounds(self._job_id)
        lost, attempt = bounds.lost, bounds.lost_attempt
        if found and found[0].first_seq - 1 > lost:
            lost, attempt = found[0].first_seq - 1, found[0].attempt
        if buffer is not None and buffer.first - 1 < lost:
            lost, attempt = buffer.first - 1, buffer.left_attempt
        if self._cursor >= lost:
            return None
        count, self._cursor = lost - self._cursor, lost
        job = await self._reader.job(self._job_id)
        return LogEntry(
            job_id=self._job_id,
            attempt=attempt,
            seq=lost,
            at=job.finished_at or job.submitted_at,
            source=LogSource.SYSTEM,
            data=b"",
            lost=count,
        )


class _Batches:
    def __init__(self, stream: LogStream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[LogEntry]:
        batch = await self._stream._next_batch()
        if not batch:
            raise StopAsyncIteration
        return batch


_END: Iterator[LogSegment] = iter(())


def _check(after: int, tail: int | None) -> None:
    whole_number("after", after, least=0)
    if tail is not None:
        whole_number("tail", tail, least=0)
    if after and tail is not None:
        msg = "after and tail exclude one another"
        raise ValueError(msg)
