"""What a `Hodei` publishes, kept for a test to look at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, overload

import anyio

from hodei_core.checks import whole_number
from hodei_core.compat import override
from hodei_core.events import Event
from hodei_core.runtime.event_bus import EventStream
from hodei_core.runtime.interrupts import wait_for

if TYPE_CHECKING:  # the default is for checkers
    from typing_extensions import TypeVar

    from hodei_core.hodei import Hodei

    E = TypeVar("E", bound=Event, default=Event, covariant=True)
else:
    from typing import TypeVar

    E = TypeVar("E", bound=Event, covariant=True)

F = TypeVar("F", bound=Event)


class CapturedEvents(Sequence[E], Generic[E]):
    """The events since a block was entered, in order: a sequence that grows.

    It holds each event from the moment it is published, and keeps all that came when the
    block is left.
    """

    def __init__(self) -> None:
        self._events: list[E] = []
        self._ended = False
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<CapturedEvents {self._events!r}>"

    @overload
    def __getitem__(self, index: int) -> E: ...
    @overload
    def __getitem__(self, index: slice) -> list[E]: ...
    @override
    def __getitem__(self, index: int | slice) -> E | list[E]:
        return self._events[index]

    @override
    def __len__(self) -> int:
        return len(self._events)

    def of(self, kind: type[F]) -> list[F]:
        """Return the events of one type."""
        return [event for event in self._events if isinstance(event, kind)]

    @overload
    async def wait_for(self, wanted: type[F], *, count: int) -> list[F]: ...
    @overload
    async def wait_for(self, wanted: type[F]) -> F: ...
    @overload
    async def wait_for(self, wanted: Callable[[E], bool], *, count: int) -> list[E]: ...
    @overload
    async def wait_for(self, wanted: Callable[[E], bool]) -> E: ...
    async def wait_for(self, wanted: Any, *, count: int | None = None) -> Any:
        """Return the first event that is wanted, or with `count` the first so many.

        Events that came before the call count. It waits without end: put a deadline around it.

        Args:
            wanted: a type of events, or a function that says whether an event is wanted.
            count: how many to wait for; a list of them is returned.

        Raises:
            LookupError: no more events come, since the `Hodei` has closed or the block is left.
            ValueError: the count is not a whole number from 1.
        """
        most = 1 if count is None else whole_number("count", count, least=1)
        found: list[E] = []
        seen = 0
        while True:
            new = self._events[seen:]
            seen += len(new)
            found += (event for event in new if _fits(event, wanted))
            if len(found) >= most:
                return found[0] if count is None else found[:most]
            if self._ended:
                name = getattr(wanted, "__name__", repr(wanted))
                msg = f"no more events come; of {most} that fit {name} there were {len(found)}"
                raise LookupError(msg)
            await wait_for(self._changed)

    def _add(self, event: Any) -> None:
        self._events.append(event)
        self._tell()

    def _end(self) -> None:
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _fits(event: Event, wanted: type | Callable[[Any], bool]) -> bool:
    return isinstance(event, wanted) if isinstance(wanted, type) else wanted(event)


class _Recorder(EventStream[Event]):
    """A stream that hands on what it is offered, at once: none of it waits, none is lost."""

    def __init__(self, stream: EventStream[Event], captured: CapturedEvents) -> None:
        super().__init__(stream._bus, stream._types)
        self._captured = captured

    @override
    def offer(self, event: Event) -> None:
        if not self._types or isinstance(event, self._types):
            self._captured._add(event)

    @override
    def end(self) -> None:
        super().end()
        self._captured._end()


@overload
def capture_events(hodei: Hodei) -> AbstractAsyncContextManager[CapturedEvents]: ...
@overload
def capture_events(
    hodei: Hodei, *types: type[F]
) -> AbstractAsyncContextManager[CapturedEvents[F]]: ...
def capture_events(
    hodei: Hodei, *types: type[Event]
) -> AbstractAsyncContextManager[CapturedEvents[Any]]:
    """Return a block in which events are kept, of these types or of all.

    ```python
    async with capture_events(hodei, JobFinished) as captured:
        await hodei.submit_many(["make a", "make b"])
        await captured.wait_for(JobFinished, count=2)
    ```

    None is lost, however many come: it is for tests.
    """
    return _capture(hodei.events(*types))


@asynccontextmanager
async def _capture(stream: EventStream[Event]) -> AsyncIterator[CapturedEvents]:
    captured = CapturedEvents[Event]()
    async with _Recorder(stream, captured):
        yield captured
