"""The log of one job while it runs: numbered, bounded, read by any number of cursors."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from operator import attrgetter

import anyio

from hodei_core.ids import JobId
from hodei_core.logs import LineSplitter, LogSegment, LogSource
from hodei_core.runtime.interrupts import wait_for

BUFFER_BYTES = 8 * 1024 * 1024
"""The most that is kept here; what left is read back from the store."""

COMMIT_BYTES = 256 * 1024
"""The most that is written to the store at once."""

_FULL_BYTES = 2 * 1024 * 1024  # unwritten: the job is held back by its pipe
_ROOM_BYTES = _FULL_BYTES // 2  # unwritten: the job may go on
_SEGMENT_BYTES = 200  # what a segment costs besides its data
_last_seq = attrgetter("last_seq")


class LogBuffer:
    """What a job printed, as numbered segments, and who waits for more of it.

    Segments are written to the store by the log writer, and stay here as long as they fit.
    A reader holds a number and nothing else: coming, going and being slow costs nobody.
    """

    def __init__(self, job_id: JobId, *, last: int, touched: Callable[[LogBuffer], None]) -> None:
        self.job_id = job_id
        self.last: int = last
        """The number of the last entry."""

        self.closed: bool = False
        """Whether the job is final and nothing more will come."""

        self.unwritten_bytes: int = 0
        self.writing: bool = False
        """Whether a commit of segments is under way."""

        self.handed_over: bool = False
        """Whether what is not written yet goes with the end of the attempt, in no other commit."""

        self.left_attempt: int = 0
        """The attempt that wrote the last entry that has left the buffer."""

        self._attempt = 0
        self._touched = touched
        self._segments: list[LogSegment] = []
        self._start = 0  # segments before this one have left the buffer
        self._written = 0  # segments before this one are in the store
        self._bytes = 0
        self._splitters: dict[LogSource, LineSplitter] = {}
        self._more: anyio.Event | None = None
        self._room: anyio.Event | None = None

    @property
    def first(self) -> int:
        """The number of the first entry that is here, or of the next one to come."""
        if self._start == len(self._segments):
            return self.last + 1
        return self._segments[self._start].first_seq

    def begin(self, attempt: int) -> None:
        """Count what comes now to this attempt."""
        self._attempt = attempt
        self._splitters.clear()

    def feed(self, source: LogSource, data: bytes, at: datetime) -> bool:
        """Take output; return whether there is room for more."""
        splitter = self._splitters.get(source)
        if splitter is None:
            splitter = self._splitters[source] = LineSplitter()
        for piece in splitter.feed(data):
            self._append(source, at, *piece)
        return self.unwritten_bytes < _FULL_BYTES

    def finish(self, source: LogSource, at: datetime) -> None:
        """Take note that the stream has ended: its unfinished line is a line."""
        splitter = self._splitters.get(source)
        if splitter is not None:
            for piece in splitter.finish():
                self._append(source, at, *piece)

    def _append(
        self, source: LogSource, at: datetime, data: bytes, count: int, partial: bool
    ) -> None:
        self._segments.append(
            LogSegment(
                attempt=self._attempt,
                first_seq=self.last + 1,
                count=count,
                at=at,
                source=source,
                data=data,
                partial=partial,
            )
        )
        self.last += count
        size = len(data) + _SEGMENT_BYTES
        self._bytes += size
        self.unwritten_bytes += size
        self._wake()
        self._touched(self)

    def unwritten(self, most: int = COMMIT_BYTES) -> tuple[LogSegment, ...]:
        """Return the next segments to be written, one at least if there is any."""
        size = 0
        end = self._written
        while end < len(self._segments):
            size += len(self._segments[end].data) + _SEGMENT_BYTES
            if size > most and end > self._written:
                break
            end += 1
        return tuple(self._segments[self._written : end])

    def wrote(self, count: int) -> None:
        """Take note that the next `count` segments are in the store."""
        self.writing = self.handed_over = False
        written = self._segments[self._written : self._written + count]
        self._written += count
        self.unwritten_bytes -= sum(len(segment.data) + _SEGMENT_BYTES for segment in written)
        while self._bytes > BUFFER_BYTES and self._start < self._written:
            left = self._segments[self._start]
            self._bytes -= len(left.data) + _SEGMENT_BYTES
            self.left_attempt = left.attempt
            self._start += 1
        if self._start * 2 > len(self._segments):
            del self._segments[: self._start]
            self._written -= self._start
            self._start = 0
        if self._room is not None and self.unwritten_bytes < _ROOM_BYTES:
            self._make_room()

    def close(self) -> None:
        """Take note that the job is final, and all is in the store."""
        self.closed = True
        self._wake()
        if self._room is not None:
            self._make_room()

    def read(self, after: int, max_bytes: int) -> list[LogSegment]:
        """Return segments with entries above `after`, which is `first - 1` or more."""
        found: list[LogSegment] = []
        size = 0
        start = bisect_left(self._segments, after + 1, lo=self._start, key=_last_seq)
        for place in range(start, len(self._segments)):
            segment = self._segments[place]
            size += len(segment.data)
            if found and size > max_bytes:
                break
            found.append(segment)
        return found

    def whole(self, most: int) -> tuple[LogSegment, ...] | None:
        """Return all that the job printed, if all of it is here and no more than so many bytes."""
        if self._bytes > most or (self.first != 1 and self.last):
            return None
        return tuple(self._segments[self._start :])

    def read_back(self, before: int) -> list[LogSegment]:
        """Return the segments here that start below `before`, the last first."""
        return [
            segment
            for segment in reversed(self._segments[self._start :])
            if segment.first_seq < before
        ]

    async def more(self) -> None:
        """Return when an entry comes after those that are here now, or none will."""
        if self.closed:
            return
        if self._more is None:
            self._more = anyio.Event()
        await wait_for(self._more)

    async def room(self) -> None:
        """Return when there is room for more output."""
        if self.closed:  # whoever prints on and on lets others end it
            await anyio.sleep(0)
            return
        if self.unwritten_bytes < _FULL_BYTES:
            return
        if self._room is None:
            self._room = anyio.Event()
        await self._room.wait()

    def _make_room(self) -> None:
        assert self._room is not None  # noqa: S101 - asked by both callers
        self._room.set()
        self._room = None

    def _wake(self) -> None:
        if self._more is not None:
            self._more.set()
            self._more = None
