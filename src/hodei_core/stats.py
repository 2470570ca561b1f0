"""Counts of what is there, at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

import attrs

from hodei_core.states import JobState
from hodei_core.values import Value
from hodei_core.workers import WorkerState


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ProviderStats(Value):
    """One provider at one instant."""

    workers: Mapping[WorkerState, int]
    wanted: int
    """Workers that the work at hand calls for."""

    max_workers: int
    breaker: Literal["closed", "open", "probing"]
    """Whether the provider is asked for workers: closed as normal, open not at all."""

    retry_at: datetime | None
    """When it is asked again, while the breaker is open."""

    startup: timedelta | None
    """How long its last worker took to become ready; measured."""

    failures: int
    """Failures since the last success."""

    last_error: str | None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Stats(Value):
    """A store and the host that dispatches from it, at one instant."""

    pending: int
    """Jobs that wait."""

    jobs: Mapping[JobState, int]
    """Jobs that are stored, by state; every state is named."""

    workers: Mapping[WorkerState, int]
    """Workers of this host, by state; every state is named."""

    slots_used: int
    """Slots in use, of workers that are READY, BUSY or DRAINING."""

    slots_total: int
    """Slots of those workers, in use or not."""

    providers: Mapping[str, ProviderStats]
