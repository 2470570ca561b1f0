"""The logs of a memory store: segments per job, the oldest dropped beyond the bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from hodei_core.ids import JobId
from hodei_core.jobs import Attempt
from hodei_core.logs import LogSegment, torn_segment
from hodei_core.ports import LogBounds, LogStore

_SEGMENT_BYTES = 200  # what a segment costs besides its data
_last_seq = attrgetter("last_seq")
_first_seq = attrgetter("first_seq")
_size = attrgetter("size")


class _JobLog:
    """One job's segments by number. What is dropped at the front is cut off now and then."""

    __slots__ = ("last", "lost", "lost_attempt", "segments", "size", "start")

    def __init__(self) -> None:
        self.segments: list[LogSegment] = []
        self.start = 0
        self.size = 0
        self.last = 0
        self.lost = 0
        self.lost_attempt = 0

    def append(self, segment: LogSegment) -> int:
        self.segments.append(segment)
        self.last = segment.last_seq
        size = len(segment.data) + _SEGMENT_BYTES
        self.size += size
        return size

    def drop_first(self) -> int:
        segment = self.segments[self.start]
        self.start += 1
        self.lost, self.lost_attempt = segment.last_seq, segment.attempt
        if self.start * 2 > len(self.segments):
            del self.segments[: self.start]
            self.start = 0
        size = len(segment.data) + _SEGMENT_BYTES
        self.size -= size
        return size

    @property
    def empty(self) -> bool:
        return self.start == len(self.segments)


class MemoryLogStore(LogStore):
    """Keeps at most `job_bytes` of each job's log and `total_bytes` of all together."""

    def __init__(self, *, job_bytes: int, total_bytes: int) -> None:
        self._job_bytes = job_bytes
        self._total_bytes = total_bytes
        self._logs: dict[JobId, _JobLog] = {}
        self._open: dict[JobId, _JobLog] = {}
        self._final: dict[JobId, None] = {}
        self._size = 0

    # Called by the store.

    def append(self, job_id: JobId, segments: Sequence[LogSegment]) -> None:
        """Append to a job's log; drop what exceeds the bounds, final jobs' logs first."""
        log = self._logs.get(job_id)
        if log is None:
            log = self._logs[job_id] = self._open[job_id] = _JobLog()
        elif job_id not in self._open:
            self._final.setdefault(job_id)
        for segment in segments:
            if segment.first_seq > log.last:  # else it was stored by a call that seemed to fail
                self._size += log.append(segment)
        while log.size > self._job_bytes and not log.empty:
            self._size -= log.drop_first()
        while self._size > self._total_bytes and self._final:
            self._drop_whole(next(iter(self._final)))
        while self._size > self._total_bytes:
            # The largest gives way: a job that prints little keeps what it printed.
            self._size -= max(self._open.values(), key=_size).drop_first()

    def tear(self, job_id: JobId, attempt: Attempt) -> None:
        """Note that the end of what an attempt printed may be missing."""
        log = self._logs.get(job_id)
        assert attempt.finished_at is not None  # noqa: S101 - it has ended
        seq = 1 if log is None else log.last + 1
        torn = torn_segment(attempt=attempt.number, seq=seq, at=attempt.finished_at)
        self.append(job_id, (torn,))

    def finish(self, job_id: JobId) -> None:
        """Take note that the job is final: its log may go when space is needed."""
        if self._open.pop(job_id, None) is not None:
            self._final[job_id] = None

    def forget(self, job_id: JobId) -> None:
        """Drop all that is known of a job's log."""
        self._final.pop(job_id, None)
        self._open.pop(job_id, None)
        log = self._logs.pop(job_id, None)
        if log is not None:
            self._size -= log.size

    def _drop_whole(self, job_id: JobId) -> None:
        del self._final[job_id]
        log = self._logs[job_id]
        while not log.empty:
            self._size -= log.drop_first()

    # LogStore

    async def bounds(self, job_id: JobId) -> LogBounds:
        log = self._logs.get(job_id)
        if log is None:
            return LogBounds(last=0, lost=0, lost_attempt=0)
        return LogBounds(last=log.last, lost=log.lost, lost_attempt=log.lost_attempt)

    async def read(self, job_id: JobId, *, after: int, max_bytes: int) -> list[LogSegment]:
        log = self._logs.get(job_id)
        if log is None:
            return []
        found: list[LogSegment] = []
        size = 0
        first = bisect_left(log.segments, after + 1, lo=log.start, key=_last_seq)
        for i in range(first, len(log.segments)):
            segment = log.segments[i]
            size += len(segment.data)
            if found and size > max_bytes:
                break
            found.append(segment)
        return found

    async def read_back(self, job_id: JobId, *, before: int, max_bytes: int) -> list[LogSegment]:
        log = self._logs.get(job_id)
        if log is None:
            return []
        found: list[LogSegment] = []
        size = 0
        end = bisect_left(log.segments, before, lo=log.start, key=_first_seq)
        for i in range(end - 1, log.start - 1, -1):
            segment = log.segments[i]
            size += len(segment.data)
            if found and size > max_bytes:
                break
            found.append(segment)
        return found
