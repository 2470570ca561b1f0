"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import anyio
import anyio.lowlevel

from hodei_core.clock import Clock
from hodei_core.compat import override

START = datetime(2020, 1, 1, tzinfo=timezone.utc)
"""What a new `FakeClock` shows."""

_DIGITS = 9  # of a second: what sums of floats differ by is far below a nanosecond


class FakeClock(Clock):
    """A clock whose time passes by `advance` only.

    Give it to `Hodei(clock=...)`: delays, timeouts, backoffs and deadlines then follow it.
    Processes do not.

    Args:
        now: the instant that it shows at first; aware.
    """

    def __init__(self, now: datetime = START) -> None:
        self._start = now
        self._elapsed = 0.0
        self._jumped = timedelta(0)
        self._moved = anyio.Event()

    @override
    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed) + self._jumped

    @override
    def monotonic(self) -> float:
        return self._elapsed

    @override
    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        # A nanosecond at least: who sleeps for less than time is counted in must not spin.
        until = round(self._elapsed + max(seconds, 10**-_DIGITS), _DIGITS)
        while self._elapsed < until:
            await self._moved.wait()

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass; what sleeps until then or before wakes.

        Raises:
            ValueError: time does not go back.
        """
        span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if span < 0:
            msg = f"seconds must not be negative, not {seconds!r}"
            raise ValueError(msg)
        # Rounded, so that ten tenths of a second are a second and meet its deadline.
        self._elapsed = round(self._elapsed + span, _DIGITS)
        self._moved.set()
        self._moved = anyio.Event()

    def jump(self, seconds: float | timedelta) -> None:
        """Set the wall clock forward or back, as an administrator does; no time passes."""
        span = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        self._jumped += span
