"""How fast a provider may be asked for workers."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 60.0


class StartRate:
    """Allows at most so many starts within any minute; None: any number.

    All instants are seconds of a monotonic clock.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._starts: deque[float] | None = None if per_minute is None else deque(maxlen=per_minute)

    def allows(self, now: float) -> bool:
        """Return whether another worker may be begun."""
        return self.next_at() <= now

    def next_at(self) -> float:
        """Return when the next may be begun; minus infinity if it could be at any time."""
        starts = self._starts
        if starts is None or len(starts) < (starts.maxlen or 0):
            return float("-inf")
        return starts[0] + WINDOW_SECONDS

    def started(self, now: float) -> None:
        """Take note that one was begun."""
        if self._starts is not None:
            self._starts.append(now)
