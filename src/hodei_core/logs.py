"""Log entries, and how a stream of bytes becomes numbered lines."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import attrs

from hodei_core.enums import NamedEnum
from hodei_core.ids import JobId
from hodei_core.values import Value

MAX_LINE_BYTES = 64 * 1024
"""The most bytes one entry holds, its newline included."""


class LogSource(NamedEnum):
    """Where an entry comes from."""

    STDOUT = "stdout"
    STDERR = "stderr"
    SYSTEM = "system"
    """The library itself: it tells of lost entries."""


_SHOWN_BYTES = 200


def _shown(data: bytes) -> str:
    if len(data) <= _SHOWN_BYTES:
        return repr(data)
    return f"{data[:_SHOWN_BYTES]!r}... ({len(data)} bytes)"


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class LogEntry(Value):
    """One line of a job's output, or a note that lines were lost."""

    job_id: JobId
    attempt: int
    """The attempt that wrote it, from 1."""

    seq: int
    """Its number in the job's log: from 1, without gaps, across attempts."""

    at: datetime
    """When its bytes arrived; aware, UTC."""

    source: LogSource
    data: bytes = attrs.field(repr=_shown)
    """The bytes as written, with the newline if there was one; at most 64 KiB."""

    partial: bool = False
    """Whether the line goes on in the next entry of its source."""

    lost: int = 0
    """How many entries are missing here, this one's `seq` being the last of them; else 0.

    1 with a text: the end of what an attempt printed may be missing, however much that was.
    """

    @property
    def text(self) -> str:
        """The line as text: UTF-8, what is invalid replaced, without its newline."""
        return self.data.removesuffix(b"\n").decode("utf-8", "replace")


class _Draft(Value):
    """A `LogEntry` that can still be written: of the same layout, so it becomes one at the end.

    Eight times as fast as the keyword arguments of a frozen class.
    """

    __slots__ = tuple(field.name for field in attrs.fields(LogEntry))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class LogSegment(Value):
    """A run of consecutive entries of one source that arrived together.

    The unit that buffers keep and stores write; entries are made from it when read.
    """

    attempt: int
    first_seq: int
    count: int
    """How many entries it holds."""

    at: datetime
    source: LogSource
    data: bytes = attrs.field(repr=False)
    partial: bool = False
    """Whether its one entry is a piece of a longer line."""

    @property
    def last_seq(self) -> int:
        """The number of its last entry."""
        return self.first_seq + self.count - 1

    def entries(self, job_id: JobId, after: int = 0) -> list[LogEntry]:
        """Return its entries with a number above `after`."""
        return self.make_entries(job_id, self.lines(after))

    def make_entries(self, job_id: JobId, lines: Iterable[tuple[int, bytes]]) -> list[LogEntry]:
        """Return the entries of some of its lines, as `lines` gave them."""
        attempt, at, source, partial = self.attempt, self.at, self.source, self.partial
        lost = 1 if source is LogSource.SYSTEM else 0
        entries: list[LogEntry] = []
        for seq, data in lines:
            entry: Any = _Draft()
            entry.job_id = job_id
            entry.attempt = attempt
            entry.seq = seq
            entry.at = at
            entry.source = source
            entry.data = data
            entry.partial = partial
            entry.lost = lost
            entry.__class__ = LogEntry
            entries.append(entry)
        return entries

    def lines(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Return number and bytes of each entry with a number above `after`."""
        lines = split_lines(self.data)
        skip = max(after - self.first_seq + 1, 0)
        return zip(
            range(self.first_seq + skip, self.first_seq + self.count),
            lines[skip:] if skip else lines,
            strict=True,
        )


def torn_segment(*, attempt: int, seq: int, at: datetime) -> LogSegment:
    """Return what ends the log of an attempt of which nobody knows whether it printed more.

    One entry, which stands for the end that may be missing, however long that was.
    """
    text = f"the end of the output of attempt {attempt} may be missing: its host died\n"
    return LogSegment(
        attempt=attempt, first_seq=seq, count=1, at=at, source=LogSource.SYSTEM, data=text.encode()
    )


def split_lines(data: bytes) -> list[bytes]:
    """Return the lines of `data`, each with its newline; split at newlines and nothing else."""
    return io.BytesIO(data).readlines()


class LineSplitter:
    """Cuts the byte stream of one source into pieces of whole lines.

    A piece is `(data, count, partial)`: the bytes of `count` entries. What does not end in a
    newline is held back until its line is complete, more than `MAX_LINE_BYTES` long, or the
    stream ends.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, int, bool]]:
        """Return the pieces that are complete with `data`, in order."""
        pieces: list[tuple[bytes, int, bool]] = []
        for start in range(0, len(data), MAX_LINE_BYTES):
            chunk = data[start : start + MAX_LINE_BYTES] if len(data) > MAX_LINE_BYTES else data
            self._feed_chunk(chunk, pieces)
        return pieces

    def _feed_chunk(self, chunk: bytes, pieces: list[tuple[bytes, int, bool]]) -> None:
        # Only the line that the rest began can be too long: a chunk alone is no longer than a line.
        if self._rest:
            end = chunk.find(b"\n") + 1
            head = self._rest + (chunk[:end] if end else chunk)
            while len(head) > MAX_LINE_BYTES:
                pieces.append((head[:MAX_LINE_BYTES], 1, True))
                head = head[MAX_LINE_BYTES:]
            if not end:
                self._rest = head
                return
            chunk = head + chunk[end:]
        end = chunk.rfind(b"\n") + 1
        self._rest = chunk[end:]
        if end:
            whole = chunk[:end] if self._rest else chunk
            pieces.append((whole, whole.count(b"\n"), False))

    def finish(self) -> list[tuple[bytes, int, bool]]:
        """Return the unfinished line, if there is one; the stream has ended."""
        rest, self._rest = self._rest, b""
        return [(rest, 1, False)] if rest else []
