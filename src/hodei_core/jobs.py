"""Jobs and their attempts: values that change only by the transitions of `states`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import attrs

from hodei_core.compat import Self
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.phases import Phase
from hodei_core.specs import JobSpec
from hodei_core.states import JobState, Reason, WaitingFor, check_transition
from hodei_core.values import Value


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Usage(Value):
    """What an attempt used: its leader and the children that it waited for."""

    cpu: timedelta
    """User and system time together."""

    max_rss_bytes: int
    """The largest resident memory of any one of its processes."""


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Attempt(Value):
    """One run of a job on a worker."""

    number: int
    """From 1, without gaps."""

    worker_id: WorkerId
    provider: str
    assigned_at: datetime
    started_at: datetime | None = None
    """None if it never started, as after START_FAILED."""

    finished_at: datetime | None = None
    reason: Reason | None = None
    """Why it did not succeed; None while it is open, and on success."""

    exit_code: int | None = None
    """0-255, or 128 + n if signal n ended the leader; None if nothing exited."""

    usage: Usage | None = None

    uncounted: bool = False
    """Whether it does not count against `max_attempts`: the host's shutdown ended it."""

    host_id: HostId | None = None
    """The host that assigned it, and owns it while it is open."""


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Job(Value):
    """An accepted job as it was at one instant."""

    id: JobId
    spec: JobSpec
    seq: int
    """Its place in the order of submission to its store."""

    state: JobState = JobState.PENDING
    waiting_for: WaitingFor | None = None
    """What it waits for; None unless it is PENDING."""

    version: int = 1
    """1 when accepted, one more with each change of state."""

    attempts: tuple[Attempt, ...] = ()
    submitted_at: datetime
    due_at: datetime
    """When it may start at the earliest: after its delay, or after a backoff."""

    started_at: datetime | None = None
    """When its first attempt started."""

    finished_at: datetime | None = None
    """When it reached its final state."""

    reason: Reason | None = None
    """Why it did not succeed; None on success, and before the end."""

    message: str | None = None
    """The cause of its end in words, where there is more to say than `reason`."""

    exit_code: int | None = None
    """The exit code of the last attempt, once the job is final."""

    retried_from: JobId | None = None
    """The job that `retry` made this one from."""

    returns: tuple[str, ...] = ()
    """The causes of its free returns since an attempt last started."""

    phases: tuple[Phase, ...] = attrs.field(default=(), repr=False)
    """What its attempts do not tell of where its time went: see `JobHandle.explain`."""

    @classmethod
    def accepted(
        cls,
        *,
        id: JobId,  # noqa: A002 - the field's name
        spec: JobSpec,
        seq: int,
        at: datetime,
        retried_from: JobId | None = None,
    ) -> Self:
        """Return a job that has just been accepted."""
        return cls(
            id=id,
            spec=spec,
            seq=seq,
            waiting_for=WaitingFor.DELAY if spec.delay else WaitingFor.CAPACITY,
            submitted_at=at,
            due_at=at + spec.delay if spec.delay else at,
            retried_from=retried_from,
        )

    @property
    def attempt(self) -> Attempt:
        """The last attempt.

        Raises:
            IndexError: there was none.
        """
        return self.attempts[-1]

    @property
    def expires_at(self) -> datetime | None:
        """When its `pending_timeout` passes; None if it has none, or not any more."""
        timeout = self.spec.pending_timeout
        if timeout is None or self.started_at is not None or self.state is not JobState.PENDING:
            return None
        return self.submitted_at + (self.spec.delay or timedelta(0)) + timeout

    def numbered(self, seq: int) -> Self:
        """Return the job as it is with its number, which its store has just given to it."""
        new = self._draft()
        new.seq = seq
        return self._sealed(new)

    def due(self) -> Self:
        """Return the job as it is once its delay or backoff is over; its version stays."""
        return attrs.evolve(self, waiting_for=WaitingFor.CAPACITY)

    def assigned(
        self,
        worker_id: WorkerId,
        provider: str,
        at: datetime,
        *,
        host_id: HostId | None = None,
        waited: tuple[Phase, ...] = (),
    ) -> Self:
        """Return the job as it is once a worker is to run it, and what it waited for until then."""
        new = self._moved(JobState.ASSIGNED, None)
        new.waiting_for = None
        if waited:
            new.phases = self.phases + waited
        new.attempts = (
            *self.attempts,
            Attempt(
                number=len(self.attempts) + 1,
                worker_id=worker_id,
                provider=provider,
                assigned_at=at,
                host_id=host_id,
            ),
        )
        return self._sealed(new)

    def started(self, at: datetime) -> Self:
        """Return the job as it is once its attempt runs."""
        new = self._moved(JobState.RUNNING, None)
        attempt = _copied(self.attempt)
        attempt.started_at = at
        new.attempts = self._with_last(attempt)
        new.started_at = self.started_at or at
        new.returns = ()
        return self._sealed(new)

    def returned(self, cause: str, *, at: datetime, due_at: datetime) -> Self:
        """Return the job as it is when its attempt was proved never started: without it."""
        new = self._moved(JobState.PENDING, None)
        attempt = self.attempt
        new.waiting_for = WaitingFor.BACKOFF
        new.attempts = self.attempts[:-1]
        new.due_at = due_at
        new.returns = (*self.returns, cause)
        reason = f"on {attempt.worker_id}, which did not start it: {cause}"
        phase = Phase(JobState.ASSIGNED, attempt.assigned_at, at, reason=reason)
        new.phases = (*self.phases, phase)
        return self._sealed(new)

    def to_retry(
        self,
        reason: Reason,
        *,
        at: datetime,
        due_at: datetime,
        exit_code: int | None = None,
        usage: Usage | None = None,
        uncounted: bool = False,
    ) -> Self:
        """Return the job as it is when its attempt ended and another is to follow."""
        new = self._moved(JobState.PENDING, reason)
        new.waiting_for = WaitingFor.BACKOFF
        new.due_at = due_at
        new.attempts = self._ended(at, reason, exit_code, usage, uncounted=uncounted)
        return self._sealed(new)

    def finished(
        self,
        state: JobState,
        reason: Reason | None,
        *,
        at: datetime,
        message: str | None = None,
        exit_code: int | None = None,
        usage: Usage | None = None,
        waited: tuple[Phase, ...] = (),
    ) -> Self:
        """Return the job in its final state; an open attempt ends with it.

        Raises:
            ValueError: the state is not final, or the table of transitions forbids it.
        """
        if not state.is_final:
            msg = f"a job cannot end as {state.name}"
            raise ValueError(msg)
        new = self._moved(state, reason)
        attempts = self.attempts
        if waited:
            new.phases = self.phases + waited
        if self.state is not JobState.PENDING:
            attempts = self._ended(at, reason, exit_code, usage)
        new.waiting_for = None
        new.attempts = attempts
        new.finished_at = at
        new.reason = reason
        new.message = message
        new.exit_code = attempts[-1].exit_code if attempts else None
        return self._sealed(new)

    def _ended(
        self,
        at: datetime,
        reason: Reason | None,
        exit_code: int | None,
        usage: Usage | None,
        *,
        uncounted: bool = False,
    ) -> tuple[Attempt, ...]:
        attempt = _copied(self.attempt)
        attempt.finished_at = at
        attempt.reason = reason
        attempt.exit_code = exit_code
        attempt.usage = usage
        attempt.uncounted = uncounted
        return self._with_last(attempt)

    def _with_last(self, attempt: Any) -> tuple[Attempt, ...]:
        attempt.__class__ = Attempt
        return (*self.attempts[:-1], attempt)

    def _moved(self, state: JobState, why: Reason | None) -> Any:
        """Return a draft of this job in another state, if the table of transitions allows it."""
        check_transition(self.state, state, why)
        new = self._draft()
        new.state = state
        new.version = self.version + 1
        return new

    def _draft(self) -> Any:
        """Return a draft of this job as it is."""
        new: Any = _JobDraft()
        new.id = self.id
        new.spec = self.spec
        new.seq = self.seq
        new.state = self.state
        new.waiting_for = self.waiting_for
        new.version = self.version
        new.attempts = self.attempts
        new.submitted_at = self.submitted_at
        new.due_at = self.due_at
        new.started_at = self.started_at
        new.finished_at = self.finished_at
        new.reason = self.reason
        new.message = self.message
        new.exit_code = self.exit_code
        new.retried_from = self.retried_from
        new.returns = self.returns
        new.phases = self.phases
        return new

    def _sealed(self, draft: Any) -> Self:
        draft.__class__ = type(self)
        sealed: Self = draft
        return sealed


# A draft has the layout of the frozen class, so that it can be written field by field and then
# become one: a tenth of the cost of `attrs.evolve`, on the path of every job.
class _JobDraft(Value):
    __slots__ = tuple(field.name for field in attrs.fields(Job))


class _AttemptDraft(Value):
    __slots__ = tuple(field.name for field in attrs.fields(Attempt))


def _copied(attempt: Attempt) -> Any:
    new: Any = _AttemptDraft()
    new.number = attempt.number
    new.worker_id = attempt.worker_id
    new.provider = attempt.provider
    new.assigned_at = attempt.assigned_at
    new.started_at = attempt.started_at
    new.finished_at = attempt.finished_at
    new.reason = attempt.reason
    new.exit_code = attempt.exit_code
    new.usage = attempt.usage
    new.uncounted = attempt.uncounted
    new.host_id = attempt.host_id
    return new
