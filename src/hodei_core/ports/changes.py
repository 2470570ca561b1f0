"""What can be written to a store, and what a store answers."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias, Union

import attrs

from hodei_core.errors import HodeiError
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Attempt, Job
from hodei_core.logs import LogSegment
from hodei_core.retention import Retention
from hodei_core.specs import JobSpec
from hodei_core.values import Value
from hodei_core.workers import Worker


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Submission(Value):
    """A job that is to be accepted."""

    id: JobId
    spec: JobSpec
    at: datetime
    retried_from: JobId | None = None
    """The final job that it repeats, and whose key it takes over."""

    attempt: Attempt | None = None
    """The attempt that is to begin at once, of a job without delay; None: it is to wait."""

    def job(self, seq: int) -> Job:
        """Return the job as it is when it has been accepted."""
        return Job.accepted(
            id=self.id, spec=self.spec, seq=seq, at=self.at, retried_from=self.retried_from
        )

    def begun(self, job: Job) -> Job:
        """Return the job as it is with its attempt, of which there is one."""
        attempt = self.attempt
        assert attempt is not None  # noqa: S101 - see above
        return job.assigned(
            attempt.worker_id, attempt.provider, attempt.assigned_at, host_id=attempt.host_id
        )


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Accept(Value):
    """Store new jobs: all or none.

    A submission whose key is known stores nothing and yields the job that holds it, unless
    the work differs. One with an attempt is stored ASSIGNED, version 2, where `Advance` would not
    be refused, else PENDING. Outcome: `jobs`, one per submission in order; `new` tells them apart.
    Errors: KeyConflictError, QueueFullError.
    """

    submissions: tuple[Submission, ...]
    max_pending: int | None = attrs.field(default=None, kw_only=True)
    """The most PENDING jobs of the store that may exist afterwards, all new ones counted."""


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Advance(Value):
    """Replace a job by its next value, if its stored version is `expected`.

    An assignment is refused, too, when its worker is not registered or has no slot free, and
    in a shared store when its attempt's host is not registered: that host was given up.
    Outcome: `applied`; `cancel`, the request that is stored with the job. If it was not
    applied, `jobs` holds the job as it is stored, or nothing if it is unknown.
    """

    job: Job
    expected: int
    torn: bool = attrs.field(default=False, kw_only=True)
    """Whether the end of what its last attempt printed may be missing.

    In the same step the log then goes on with `torn_segment`, numbered by what is stored.
    """

    unless_cancelled: bool = attrs.field(default=False, kw_only=True)
    """Whether it is refused, too, if a cancel request is stored with the job: `cancel` holds it."""


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class CancelRequest(Value):
    """Somebody's wish that a job ends."""

    at: datetime
    reason: str | None = None


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class RequestCancel(Value):
    """Store a cancel request with each job that is not final; the first request stays.

    Outcome: `jobs` holds each job as it is stored; jobs that are unknown are left out.
    """

    job_ids: tuple[JobId, ...]
    request: CancelRequest


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class MarkDue(Value):
    """Let delayed and backing-off jobs whose `due_at` has come into the queue.

    Outcome: `jobs`, those that came in, in the order of the queue.
    """

    now: datetime


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class AppendLogs(Value):
    """Append segments to a job's log; the numbers follow on what is stored.

    A segment whose number is stored already is left out: who could not learn whether a call
    succeeded makes it again. A shared store refuses segments of an attempt that is not the
    job's open one.
    """

    job_id: JobId
    segments: tuple[LogSegment, ...]


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class PutWorker(Value):
    """Register a worker, or replace what is known of it.

    `slots_used`, `jobs` and `idle_since` are the store's own: they follow the assignments.
    """

    worker: Worker


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class RemoveWorker(Value):
    """Forget a worker. No job may be assigned to it."""

    worker_id: WorkerId


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class JoinHost(Value):
    """Register a host. Shared stores only, as are the next three changes."""

    record: HostRecord


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class RenewHost(Value):
    """Replace what is known of a host. Refused if it is not registered: it was given up."""

    record: HostRecord


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class RemoveHost(Value):
    """Forget a host; refused if its beat is another by now: it lives."""

    host_id: HostId
    beat: int | None = None
    """None: whatever its beat is."""


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Cover(Value):
    """Mark PENDING jobs as waiting for a worker that a host makes, until an instant.

    `JobQueue.peek` then shows them to that host only, as long as it is registered. The next
    `Advance` of a job ends its mark.
    """

    job_ids: tuple[JobId, ...]
    host_id: HostId
    until: datetime


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Prune(Value):
    """Delete final jobs that finished before `before`, with attempts and logs.

    Outcome: `count`, and `more` if some are left. With a `limit` a store deletes no more jobs than
    that, and stops before them where it would keep others waiting for long: of a job with
    a long log it may have dropped the beginning only, which leaves a gap. The same change again
    goes on from there.
    """

    before: datetime
    limit: int | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Retain(Value):
    """Delete a slice of what a policy does not keep any longer: jobs, and logs that take too much.

    Only stores with a `retention` are asked for it, any number of hosts at a time. What is
    left of a log has its bounds moved, so that readers are told of the gap. Outcome: `count`, of
    jobs, and `more`, as for a `Prune` with a limit.
    """

    retention: Retention
    now: datetime
    limit: int = attrs.field(default=250, kw_only=True)


Change: TypeAlias = Union[  # noqa: UP007 - evaluated on 3.10
    Accept,
    Advance,
    RequestCancel,
    MarkDue,
    AppendLogs,
    PutWorker,
    RemoveWorker,
    JoinHost,
    RenewHost,
    RemoveHost,
    Cover,
    Prune,
    Retain,
]


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Outcome(Value):
    """A store's answer to one change."""

    applied: bool = True
    """Whether the change was made."""

    jobs: tuple[Job, ...] = ()
    new: tuple[bool, ...] = ()
    """For each of `jobs`, whether this change stored it (Accept only)."""

    cancel: CancelRequest | None = None
    count: int = 0
    more: bool = False
    """Whether the same change would find more to do."""

    error: HodeiError | None = None
    """Why a change was refused that a caller made; nothing of it was stored."""


__all__ = [
    "Accept",
    "Advance",
    "AppendLogs",
    "CancelRequest",
    "Change",
    "Cover",
    "JoinHost",
    "MarkDue",
    "Outcome",
    "Prune",
    "PutWorker",
    "RemoveHost",
    "RemoveWorker",
    "RenewHost",
    "RequestCancel",
    "Retain",
    "Submission",
]
