"""Workers: places with slots that run attempts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from hodei_core.enums import NamedEnum
from hodei_core.frozendict import EMPTY, frozen_texts
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.resources import Resources
from hodei_core.values import Value


class WorkerState(NamedEnum):
    """Where a worker is."""

    PROVISIONING = "provisioning"
    """Its provider is making it; moved out by the provider's answer."""

    READY = "ready"
    """It takes work: something still fits."""

    BUSY = "busy"
    """All its slots are in use."""

    DRAINING = "draining"
    """It finishes what it has and takes no more."""

    TERMINATING = "terminating"
    """Its provider was asked to end it."""

    TERMINATED = "terminated"
    """It is gone, as planned."""

    LOST = "lost"
    """It is gone without plan."""


@attrs.frozen(kw_only=True, cache_hash=True)
class Offer:
    """What a worker has, or what every worker of a provider will have; hashable."""

    provider: str
    slots: int = 1
    resources: Resources = attrs.field(default=Resources())
    """All of it; None for memory means no limit."""

    labels: Mapping[str, str] = attrs.field(default=EMPTY, converter=frozen_texts)
    image: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Worker(Value):
    """A worker as it was at one instant."""

    id: WorkerId
    provider: str
    state: WorkerState
    slots: int
    """How many jobs it runs at once."""

    slots_used: int = 0
    resources: Resources
    """All that it has, used or not."""

    labels: Mapping[str, str] = attrs.field(default=EMPTY, converter=frozen_texts)
    image: str | None = None
    jobs: tuple[JobId, ...] = ()
    """The jobs that hold its slots."""

    ready_at: datetime | None = None
    """When it became ready; aware, UTC."""

    idle_since: datetime | None = None
    """When its last slot was freed, or it became ready; None while a slot is in use."""

    host_id: HostId | None = None
    """The host that it belongs to."""

    @property
    def offer(self) -> Offer:
        """What it has, as the scheduler matches it."""
        return Offer(
            provider=self.provider,
            slots=self.slots,
            resources=self.resources,
            labels=self.labels,
            image=self.image,
        )
