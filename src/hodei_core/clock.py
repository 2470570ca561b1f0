"""Time: the only place where a clock is read."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from datetime import datetime, timedelta, timezone

import anyio

from hodei_core.compat import override
from hodei_core.errors import shown


class Clock(ABC):
    """Tells the time and waits for it.

    Instants come from the wall clock, spans from the monotonic one; the two are never mixed,
    so a wall clock that jumps makes no job end early and no duration negative.
    """

    @abstractmethod
    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return a time in seconds that never goes back; its zero means nothing."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Return when `monotonic` has grown by `seconds`; at once if that is not positive."""


class SystemClock(Clock):
    """The clocks of this machine."""

    @override
    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    @override
    def monotonic(self) -> float:
        return time.monotonic()

    @override
    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(seconds, 0))


def to_timedelta(value: float | timedelta) -> timedelta:
    """Return a span given in seconds or as a `timedelta` as a `timedelta`.

    Raises:
        TypeError: it is neither a number nor a `timedelta`.
        ValueError: it is not finite, or too large for a `timedelta`.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"must be seconds (a number) or a timedelta, not {type(value).__name__}"
        raise TypeError(msg)
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        msg = f"must be a finite number of seconds, not {shown(value)}"
        raise ValueError(msg) from None
