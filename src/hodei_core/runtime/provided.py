"""One provider of this host and what is known of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from hodei_core.ids import WorkerId
from hodei_core.ports import WorkerProvider, WorkerSession
from hodei_core.scheduling.scheduler import ProviderView
from hodei_core.stats import ProviderStats
from hodei_core.workers import Offer, WorkerState


class Provided:
    """A provider, its workers, and how it fared when it was asked for more."""

    def __init__(self, provider: WorkerProvider) -> None:
        self.provider = provider
        self.offer: Offer = provider.offer
        self.sessions: dict[WorkerId, WorkerSession] = {}
        self.arriving = 0
        self.failures = 0
        self.never: str | None = None
        self.last_error: str | None = None
        self.retry_at: datetime | None = None
        self.startup: timedelta | None = None

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.offer.provider

    @property
    def room(self) -> int:
        """How many more workers it may have."""
        return self.provider.max_workers - len(self.sessions) - self.arriving

    def view(self) -> ProviderView:
        """Return it as the scheduler sees it."""
        obstacle = None
        if self.retry_at is not None:
            obstacle = f"it failed to make a worker ({self.last_error}) and is asked again soon"
        return ProviderView(
            name=self.name,
            offer=self.offer,
            room=self.room,
            arriving=self.arriving,
            obstacle=obstacle,
            never=self.never,
        )

    def stats(self, busy: int) -> ProviderStats:
        """Return its figures, so many of its workers being busy."""
        workers = dict.fromkeys(WorkerState, 0)
        workers[WorkerState.PROVISIONING] = self.arriving
        workers[WorkerState.READY] = len(self.sessions) - busy
        workers[WorkerState.BUSY] = busy
        breaker: Literal["closed", "open"] = "closed" if self.retry_at is None else "open"
        return ProviderStats(
            workers=workers,
            wanted=self.provider.max_workers,
            max_workers=self.provider.max_workers,
            breaker=breaker,
            retry_at=self.retry_at,
            startup=self.startup,
            failures=self.failures,
            last_error=self.last_error,
        )
