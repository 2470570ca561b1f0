"""Publishes events to any number of subscribers, each with a bounded backlog of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Generic

import anyio

from hodei_core.clock import Clock
from hodei_core.compat import Self
from hodei_core.events import Event, SubscriberLagged
from hodei_core.runtime.interrupts import wait_for

BACKLOG = 4_096
"""The most events that wait for one subscriber; beyond that the oldest go."""

if TYPE_CHECKING:  # the default is for checkers
    from typing_extensions import TypeVar

    E = TypeVar("E", bound=Event, default=Event, covariant=True)
else:
    from typing import TypeVar

    E = TypeVar("E", bound=Event, covariant=True)


class EventStream(Generic[E]):
    """An async iterator of events, from the moment its `async with` is entered.

    It holds at most 4,096 events; if its reader is slower than that, the oldest are dropped
    and a `SubscriberLagged` that counts them is the next thing it reads. It ends when the
    `Hodei` closes.
    """

    def __init__(self, bus: EventBus, types: tuple[type[Event], ...]) -> None:
        self._bus = bus
        self._types = types
        self._waiting: deque[Event] = deque()
        self._missed = 0
        self._more: anyio.Event | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        await self._bus.catch_up()
        self._bus.attach(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bus.detach(self)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        if not self._bus.knows(self) and not self._ended:
            msg = "events are seen inside `async with hodei.events() as stream:` only"
            raise RuntimeError(msg)
        while True:
            if self._missed:
                missed, self._missed = self._missed, 0
                return SubscriberLagged(at=self._bus.now(), missed=missed)  # type: ignore[return-value]
            if self._waiting:
                return self._waiting.popleft()  # type: ignore[return-value]
            if self._ended:
                raise StopAsyncIteration
            self._more = anyio.Event()
            await wait_for(self._more)

    def offer(self, event: Event) -> None:
        """Take an event in, if it is of a wanted type."""
        if self._types and not isinstance(event, self._types):
            return
        if len(self._waiting) == BACKLOG:
            self._waiting.popleft()
            self._missed += 1
        self._waiting.append(event)
        self._wake()

    def skip(self, count: int) -> None:
        """Take note of events that nobody can tell any more."""
        self._missed += count
        self._wake()

    def end(self) -> None:
        """No event comes after those that wait."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._more is not None:
            self._more.set()


async def _at_once() -> None:
    pass


class EventBus:
    """Hands each event to every subscriber; no subscriber can hold or break it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._streams: dict[EventStream[Event], None] = {}
        self._closed = False
        self.catch_up: Callable[[], Awaitable[None]] = _at_once
        """Returns when all is told of what others have done up to now."""

    def __bool__(self) -> bool:
        """Whether anybody listens; if not, no event need be made."""
        return bool(self._streams)

    def now(self) -> datetime:
        """Return the present instant."""
        return self._clock.now()

    def subscribe(self, types: Iterable[type[Event]]) -> EventStream[Event]:
        """Return a stream of events of these types, of all if none is named."""
        return EventStream(self, tuple(types))

    def attach(self, stream: EventStream[Event]) -> None:
        """Begin to hand events to a stream."""
        if self._closed:
            stream.end()
        else:
            self._streams[stream] = None

    def detach(self, stream: EventStream[Event]) -> None:
        """Hand a stream no more events; idempotent."""
        self._streams.pop(stream, None)

    def knows(self, stream: EventStream[Event]) -> bool:
        """Return whether a stream is attached."""
        return stream in self._streams

    def publish(self, event: Event) -> None:
        """Hand an event to every subscriber."""
        for stream in self._streams:
            stream.offer(event)

    def skip(self, count: int) -> None:
        """Tell every subscriber that it missed so many events."""
        for stream in self._streams:
            stream.skip(count)

    def close(self) -> None:
        """End every stream, after what it holds."""
        self._closed = True
        for stream in self._streams:
            stream.end()
        self._streams.clear()
