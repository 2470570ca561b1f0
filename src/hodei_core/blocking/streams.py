"""Streams of log entries and of events, without `async`.

What the event loop has read is laid down here before the call returns: if Ctrl-C comes between
the two, the next call finds it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Generic

from hodei_core.compat import Self
from hodei_core.errors import ForkedError
from hodei_core.events import Event
from hodei_core.logs import LogEntry
from hodei_core.runtime.event_bus import EventStream as AsyncEventStream
from hodei_core.runtime.log_stream import LogStream as AsyncLogStream

if TYPE_CHECKING:  # the default is for checkers
    from typing_extensions import TypeVar

    from hodei_core.blocking.portal import Portal

    E = TypeVar("E", bound=Event, default=Event, covariant=True)
else:
    from typing import TypeVar

    E = TypeVar("E", bound=Event, covariant=True)


class LogStream:
    """An iterator of a job's `LogEntry`: the twin of `hodei_core.LogStream`, without `async`.

    Entries come from the event loop a batch at a time: what is there, as soon as something is.
    A stream is for one thread at a time.
    """

    def __init__(self, portal: Portal, twin: AsyncLogStream) -> None:
        self._portal = portal
        self._twin = twin
        self._ready: Iterator[LogEntry] = iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LogEntry:
        entry = next(self._ready, None)
        if entry is None:
            self._portal.call(self._fetch)
            entry = next(self._ready, None)
            if entry is None:
                raise StopIteration
        return entry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def batches(self) -> Iterator[list[LogEntry]]:
        """Return an iterator over lists of entries, as `hodei_core.LogStream.batches` does."""
        return _Batches(self)

    def _next_batch(self) -> list[LogEntry]:
        """Return the entries that come next, at least one; none at the end."""
        batch = list(self._ready)
        if not batch:
            self._portal.call(self._fetch)
            batch = list(self._ready)
        return batch

    async def _fetch(self) -> None:
        async for batch in self._twin.batches():
            self._ready = iter(batch)
            return


class _Batches:
    def __init__(self, stream: LogStream) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[LogEntry]:
        batch = self._stream._next_batch()
        if not batch:
            raise StopIteration
        return batch


class EventStream(Generic[E]):
    """An iterator of events: the twin of `hodei_core.EventStream`, for `with` and `for`.

    A stream is for one thread at a time.
    """

    def __init__(self, portal: Portal, twin: AsyncEventStream[E]) -> None:
        self._portal = portal
        self._twin = twin
        self._ready: deque[E] = deque()
        self._entered = False

    def __enter__(self) -> Self:
        self._portal.call(self._twin.__aenter__)
        self._entered = True
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(ForkedError):  # a forked child has nothing to leave
            self._portal.call(lambda: self._twin.__aexit__(exc_type, exc, traceback))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        if not self._entered:
            msg = "events are seen inside `with hodei.events() as stream:` only"
            raise RuntimeError(msg)
        if not self._ready:
            self._portal.call(self._fetch)
            if not self._ready:
                raise StopIteration
        return self._ready.popleft()

    async def _fetch(self) -> None:
        async for event in self._twin:
            self._ready.append(event)
            return
