"""What the tests of the scheduling share."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from hypothesis import settings

from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.resources import Resources
from hodei_core.scheduling.needs import Needs
from hodei_core.specs import JobSpec
from hodei_core.workers import Offer

NOW = datetime(2020, 1, 1, tzinfo=timezone.utc)

deterministic = settings(derandomize=True, deadline=None, max_examples=100)
"""The same examples in each run, however slow the machine."""


def offer(
    provider: str = "local", *, cpus: float = 4, memory: int | str | None = None, **fields: Any
) -> Offer:
    return Offer(provider=provider, resources=Resources(cpus, memory), **fields)


def needs(*, cpus: float = 1, memory: int | str | None = None, **fields: Any) -> Needs:
    return Needs(resources=Resources(cpus, memory), **fields)


def job(seq: int, *, priority: int = 0, kind: str | None = None) -> Job:
    """Return an eligible job; jobs of one kind need the same."""
    return Job.accepted(
        id=JobId(f"job-{seq}"),
        spec=JobSpec("true", priority=priority, image=kind),
        seq=seq,
        at=NOW,
    )
