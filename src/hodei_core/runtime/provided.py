"""One provider of this host: its workers, and whether it can be asked for more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from hodei_core.clock import Clock
from hodei_core.ids import WorkerId
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import WorkerProvider
from hodei_core.runtime.member import Member
from hodei_core.scheduling.breaker import Breaker
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.start_rate import StartRate
from hodei_core.stats import ProviderStats
from hodei_core.workers import Offer, WorkerState

_ROUNDING = 1e-6  # seconds: a timer may fire that much early


class Provided:
    """A provider, its workers from intent to absence, and how it fared when asked for more."""

    def __init__(self, provider: WorkerProvider, clock: Clock) -> None:
        self.provider: WorkerProvider = provider
        self.offer: Offer = provider.offer
        self.policy: WorkerPolicy = provider.policy
        self.members: dict[WorkerId, Member] = {}
        self.breaker: Breaker = Breaker()
        self.never: str | None = None
        """Why it can never make a worker; None if it did not say so."""

        self.last_error: str | None = None
        self.startup: timedelta | None = None
        """How long its last worker took to become ready."""

        self.last_used: int = 0
        self.rate: StartRate = StartRate(self.policy.starts_per_minute)
        self._clock = clock

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.offer.provider

    @property
    def room(self) -> int:
        """How many more workers it may have."""
        return self.policy.max_workers - len(self.members)

    @property
    def askable(self) -> bool:
        """Whether it can be asked for a worker now."""
        return self.never is None and self.room > 0 and self.obstacle() is None

    @property
    def missing(self) -> int:
        """How many workers it has less than are to be kept warm."""
        if not self.policy.min_workers:
            return 0
        there = sum(member.serving or member.arriving for member in self.members.values())
        return min(self.policy.min_workers - there, self.room)

    def arriving(self) -> Iterator[Member]:
        """Return the workers that it is making and that are counted on."""
        return (member for member in self.members.values() if member.arriving)

    def obstacle(self) -> tuple[str, float | None] | None:
        """Return why it is not asked now, and until when by the monotonic clock if known."""
        now = self._clock.monotonic() + _ROUNDING
        if not self.breaker.allows(now):
            if self.breaker.state == "probing":
                return (f"it failed to make a worker ({self.last_error}) and is being tried", None)
            return (f"it failed to make a worker ({self.last_error})", self.breaker.retry_at)
        if not self.rate.allows(now):
            most = self.policy.starts_per_minute
            return (
                f"it has begun {most} within a minute, the most that it may",
                self.rate.next_at(),
            )
        return None

    def view(self) -> ProviderView:
        """Return it as the scheduler sees it."""
        obstacle = self.obstacle()
        arriving = list(self.arriving())
        return ProviderView(
            name=self.name,
            offer=self.offer,
            room=self.room,
            arriving=len(arriving),
            arriving_since=min((member.begun_at for member in arriving), default=None),
            obstacle=None if obstacle is None else obstacle[0],
            until=None if obstacle is None else self._instant(obstacle[1]),
            never=self.never,
            failures=self.breaker.failures,
            startup=self.startup,
            cost_per_hour=self.policy.cost_per_hour,
            last_used=self.last_used,
        )

    def _instant(self, at: float | None) -> datetime | None:
        """Return when a time of the monotonic clock is, by the wall clock as it is now."""
        if at is None:
            return None
        return self._clock.now() + timedelta(seconds=at - self._clock.monotonic())

    def stats(self, busy: int) -> ProviderStats:
        """Return its figures, so many of its workers being in use to the last slot."""
        workers = dict.fromkeys(WorkerState, 0)
        for member in self.members.values():
            workers[member.state] += 1
        workers[WorkerState.READY] -= busy
        workers[WorkerState.BUSY] = busy
        used = sum(workers[s] for s in (WorkerState.PROVISIONING, WorkerState.BUSY))
        return ProviderStats(
            workers=workers,
            wanted=max(used, self.policy.min_workers),
            max_workers=self.policy.max_workers,
            breaker=self.breaker.state,
            retry_at=self._instant(self.breaker.retry_at),
            startup=self.startup,
            failures=self.breaker.failures,
            last_error=self.last_error,
        )
