"""When a provider that fails is asked again."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from hodei_core.retry import Backoff

BREAKER_BACKOFF = Backoff(first=timedelta(seconds=1), factor=2, max=timedelta(minutes=5))
"""The pauses after failures in a row: 1 s, 2 s, 4 s, ... 5 min, each 10 % shorter or longer."""


class Breaker:
    """Closed while all is well; open after a failure; then one probe decides.

    Pauses grow until a worker is of use, not only there: one that dies before it has a job is a
    failure as well. All instants are seconds of a monotonic clock.
    """

    def __init__(self, backoff: Backoff = BREAKER_BACKOFF) -> None:
        self.state: Literal["closed", "open", "probing"] = "closed"
        self.failures: int = 0
        """Since the last success."""

        self.opened_at: float | None = None
        """Since when it has not been closed; None while it is."""

        self.retry_at: float | None = None
        """When a probe is allowed; None unless it is open."""

        self._backoff = backoff
        self._trips = 0
        self._probed_at = 0.0

    def allows(self, now: float) -> bool:
        """Return whether the provider may be asked for a worker."""
        if self.state == "open":
            assert self.retry_at is not None  # noqa: S101 - it is open
            return now >= self.retry_at
        return self.state == "closed"

    def asked(self, now: float) -> None:
        """Take note that the provider was asked, as it was allowed: if open, that is the probe."""
        if self.state == "open":
            self.state = "probing"
            self.retry_at = None
            self._probed_at = now

    def failed(self, now: float, chance: float, *, asked_at: float) -> bool:
        """Take note of a failure; return whether it tripped: it was closed before.

        Late answers, to what was asked before it opened, decide nothing and make no pause
        longer. `chance` in [0, 1) places the pause within its jitter.
        """
        self.failures += 1
        tripped = self.state == "closed"
        if self.state == "open" or (self.state == "probing" and asked_at < self._probed_at):
            return False
        if tripped:
            self.opened_at = now
        self._trips += 1
        self.state = "open"
        self.retry_at = now + self._backoff.pause(self._trips, chance).total_seconds()
        return tripped

    def gave_up(self, now: float, *, asked_at: float) -> None:
        """Take note that nobody waits any more for what was asked; if the probe: ask again."""
        if self.state == "probing" and asked_at >= self._probed_at:
            self.state = "open"
            self.retry_at = now

    def succeeded(self) -> bool:
        """Take note of a success; return whether it recovered: it was not closed before."""
        recovered = self.state != "closed"
        self.state = "closed"
        self.failures = 0
        self.opened_at = self.retry_at = None
        return recovered

    def proved(self) -> None:
        """Take note that a worker was given its first job: the next pause is a short one."""
        self._trips = 0
