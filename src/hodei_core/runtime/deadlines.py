"""The one heap of deadlines of a host."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import anyio

from hodei_core.clock import Clock

_ROUNDING = 1e-9  # seconds: sums of floats that should be equal differ by less
_SLACK = 64  # cancelled entries that may lie about before the heap is rebuilt


class Deadline:
    """One call that is due at some time, unless cancelled."""

    __slots__ = ("_owner", "at", "call", "order")

    def __init__(self, owner: Deadlines, at: float, order: int, call: Callable[[], None]) -> None:
        self._owner = owner
        self.at: float = at
        self.order: int = order
        self.call: Callable[[], None] | None = call

    def __lt__(self, other: Deadline) -> bool:
        return (self.at, self.order) < (other.at, other.order)

    def cancel(self) -> None:
        """Make the call never; idempotent."""
        if self.call is not None:
            self.call = None
            self._owner._forget_one()


class Deadlines:
    """Calls plain functions when their time has come, by the clock's monotonic time.

    One task runs `run`; nothing else of the host waits for time. Setting, meeting and
    cancelling a deadline costs O(log n), however many there are.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Deadline] = []
        self._order = 0
        self._dead = 0
        self._sleep_until = -math.inf
        self._sleeping: anyio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def at(self, when: float, call: Callable[[], None]) -> Deadline:
        """Have `call` called when the clock's monotonic time is `when` seconds."""
        self._order += 1
        deadline = Deadline(self, when, self._order, call)
        heapq.heappush(self._heap, deadline)
        if self._sleeping is not None and when < self._sleep_until:
            self._sleeping.cancel()
        return deadline

    def after(self, seconds: float, call: Callable[[], None]) -> Deadline:
        """Have `call` called `seconds` from now."""
        return self.at(self._clock.monotonic() + seconds, call)

    async def run(self) -> None:
        """Call what is due, for ever."""
        while True:
            now = self._clock.monotonic()
            due, last = now + _ROUNDING, self._order
            while self._heap and (self._heap[0].call is None or self._heap[0].at <= due):
                if self._heap[0].order > last:
                    break  # set by what was due: others of the event loop have their turn first
                deadline = heapq.heappop(self._heap)
                call, deadline.call = deadline.call, None
                if call is None:
                    self._dead -= 1
                else:
                    call()
            self._sleep_until = self._heap[0].at if self._heap else math.inf
            with anyio.CancelScope() as self._sleeping:
                if self._heap:
                    await self._clock.sleep(self._sleep_until - now)
                else:
                    await anyio.sleep_forever()
            self._sleeping = None

    def _forget_one(self) -> None:
        self._dead += 1
        if self._dead > _SLACK and self._dead * 2 > len(self._heap):
            self._heap = [deadline for deadline in self._heap if deadline.call is not None]
            heapq.heapify(self._heap)
            self._dead = 0
