"""Providers as schedulers and strategies see them."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from hodei_core.values import Value
from hodei_core.workers import Offer


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ProviderView(Value):
    """A provider as the scheduler sees it."""

    name: str
    offer: Offer
    """What each worker that it makes will have."""

    room: int
    """How many more workers it may have."""

    arriving: int
    """Workers that it is making."""

    arriving_since: datetime | None = None
    """When the oldest of those was begun; aware, UTC."""

    obstacle: str | None = None
    """Why it is not asked for workers at the moment; None if it can be."""

    until: datetime | None = None
    """When the obstacle is over; aware, UTC; None if nobody knows."""

    never: str | None = None
    """Why it can never make a worker, as it said itself; None if it did not."""

    failures: int = 0
    """Workers that it could not make since it last made one."""

    startup: timedelta | None = None
    """How long its last worker took to become ready; measured; None if there was none."""

    cost_per_hour: float | None = None
    last_used: int = 0
    """Grows with each worker asked for, of whichever provider; 0 if it was never asked."""

    @property
    def askable(self) -> bool:
        """Whether it can be asked for a worker now."""
        return self.never is None and self.obstacle is None and self.room > 0
