"""What happened: published after the commit that holds it, once, in the order of the states."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from hodei_core.ids import JobId, WorkerId
from hodei_core.states import JobState, Reason
from hodei_core.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event(Value):
    """Something that happened."""

    at: datetime
    """When; aware, UTC."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobEvent(Event):
    """Something that happened to a job."""

    job_id: JobId
    version: int
    """The job's version with this event's state in it."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobSubmitted(JobEvent):
    """A job was accepted and is stored."""

    name: str | None = None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobAssigned(JobEvent):
    """A worker is to run the job."""

    worker_id: WorkerId
    attempt: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobStarted(JobEvent):
    """An attempt runs."""

    worker_id: WorkerId
    attempt: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobRetried(JobEvent):
    """The job is PENDING again: an attempt ended and another follows, or none had started."""

    attempt: int
    """The attempt that ended, or that never started."""

    reason: Reason | None
    """How it ended; None if it was proved never started."""

    due_at: datetime
    """When the job may be assigned again."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobFinished(JobEvent):
    """The job reached its final state."""

    state: JobState
    reason: Reason | None
    exit_code: int | None


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobStuck(JobEvent):
    """A due job has waited for longer than `stuck_after`; once per wait."""

    waited: timedelta
    explanation: str
    """Why it is still where it is; how many are ahead of it is not counted."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WorkerEvent(Event):
    """Something that happened to a worker."""

    worker_id: WorkerId
    provider: str


class WorkerProvisioning(WorkerEvent):
    """A provider was asked to make the worker."""

    __slots__ = ()


class WorkerReady(WorkerEvent):
    """The worker takes work."""

    __slots__ = ()


class WorkerDraining(WorkerEvent):
    """The worker takes no more work."""

    __slots__ = ()


class WorkerTerminated(WorkerEvent):
    """The worker is gone, as planned, or could not be made and nothing of it is left."""

    __slots__ = ()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WorkerLost(WorkerEvent):
    """The worker is gone without plan; what it ran is rescued."""

    message: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ProviderEvent(Event):
    """Something that happened to a provider."""

    provider: str
    message: str


class ProviderTripped(ProviderEvent):
    """A provider failed to make workers and is left alone for a while."""

    __slots__ = ()


class ProviderRecovered(ProviderEvent):
    """A provider makes workers again."""

    __slots__ = ()


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SubscriberLagged(Event):
    """A subscriber was too slow; its oldest events were dropped."""

    missed: int
    """How many."""
