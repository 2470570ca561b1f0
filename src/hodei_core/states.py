"""The states of a job, and the one table of who moves it, by what, under which deadline."""

from __future__ import annotations

from collections.abc import Set

import attrs

from hodei_core.enums import NamedEnum
from hodei_core.values import Value


class JobState(NamedEnum):
    """Where a job is. The last four are final and never change."""

    PENDING = "pending"
    """Accepted and waiting; moved in by `submit` or a return, out by the dispatcher or a cancel."""

    ASSIGNED = "assigned"
    """Given to a worker, a slot reserved; moved in and out by the dispatcher."""

    RUNNING = "running"
    """Started on its worker; moved in when the worker says so, out by its end."""

    SUCCEEDED = "succeeded"
    """Ended with exit code 0."""

    FAILED = "failed"
    """Ended otherwise; `reason` says how."""

    CANCELLED = "cancelled"
    """Ended because somebody asked for it, or because its memory store closed."""

    TIMED_OUT = "timed_out"
    """Ended because an attempt ran longer than its `timeout`."""

    @property
    def is_final(self) -> bool:
        """Whether the state can never change again."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT}
)


class WaitingFor(NamedEnum):
    """What a PENDING job waits for."""

    DELAY = "delay"
    """Its own `delay` is not over."""

    BACKOFF = "backoff"
    """An attempt ended, and the pause before the next is not over."""

    CAPACITY = "capacity"
    """It is due: for its turn, or for a worker with room."""

    PROVISIONING = "provisioning"
    """It is due, and a worker that fits is being made."""

    DRAIN = "drain"
    """It is due, and the host was told to assign no more."""


class Reason(NamedEnum):
    """Why an attempt, or a job, did not succeed."""

    EXIT_CODE = "exit_code"
    """The leader ended with an exit code other than 0."""

    SIGNALLED = "signalled"
    """A signal ended the leader, or its shell reports that (128 + the signal's number)."""

    OUT_OF_MEMORY = "out_of_memory"
    """It was ended because it used more memory than allowed; told by Docker only."""

    START_FAILED = "start_failed"
    """It could not be started: no such program, no such directory, not executable, too large."""

    TIMEOUT = "timeout"
    """It ran longer than its `timeout`."""

    PENDING_TIMEOUT = "pending_timeout"
    """It was due for longer than its `pending_timeout` without a start."""

    CANCELLED = "cancelled"
    """Somebody asked for its end."""

    INTERRUPTED = "interrupted"
    """The host shut down under it."""

    WORKER_LOST = "worker_lost"
    """Its worker went away without plan."""

    POISON = "poison"
    """Three workers were lost under it."""

    PROVISION_FAILED = "provision_failed"
    """No provider can ever make the worker that it needs."""

    UNSCHEDULABLE = "unschedulable"
    """No host of the store could ever run it."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Transition(Value):
    """One allowed change of a job's state."""

    source: JobState
    target: JobState
    reasons: frozenset[Reason | None]
    """The reasons that the change may carry; None stands for a change without one."""

    mover: str
    """Who makes the change."""

    event: str
    """What happened, for the change to be made."""

    deadline: str
    """What bounds the time in the source state until this change or another."""


_PENDING_DEADLINE = "pending_timeout, else JobStuck is published; both from when it is due"
_ASSIGNED_DEADLINE = "30 s to start; then it is ended, and given back if it never did"
_RUNNING_DEADLINE = "its timeout, and its worker's life"
_ENDED: frozenset[Reason | None] = frozenset(
    {
        Reason.EXIT_CODE,
        Reason.SIGNALLED,
        Reason.OUT_OF_MEMORY,
        Reason.WORKER_LOST,
        Reason.POISON,
        Reason.INTERRUPTED,
    }
)


def _row(
    source: JobState, target: JobState, reasons: Set[Reason | None], mover: str, event: str
) -> Transition:
    deadline = {
        JobState.PENDING: _PENDING_DEADLINE,
        JobState.ASSIGNED: _ASSIGNED_DEADLINE,
        JobState.RUNNING: _RUNNING_DEADLINE,
    }[source]
    return Transition(
        source=source,
        target=target,
        reasons=frozenset(reasons),
        mover=mover,
        event=event,
        deadline=deadline,
    )


TRANSITIONS: tuple[Transition, ...] = (
    _row(JobState.PENDING, JobState.ASSIGNED, {None}, "dispatcher", "a worker has room for it"),
    _row(
        JobState.PENDING,
        JobState.CANCELLED,
        {Reason.CANCELLED, Reason.INTERRUPTED},
        "dispatcher",
        "a cancel was requested; or its memory store closes",
    ),
    _row(
        JobState.PENDING,
        JobState.FAILED,
        {
            Reason.PENDING_TIMEOUT,
            Reason.UNSCHEDULABLE,
            Reason.PROVISION_FAILED,
            Reason.START_FAILED,
        },
        "dispatcher",
        "its pending_timeout passed; nothing could ever run it; or ten free returns in a row",
    ),
    _row(JobState.ASSIGNED, JobState.RUNNING, {None}, "worker", "the worker started it"),
    _row(
        JobState.ASSIGNED,
        JobState.CANCELLED,
        {Reason.CANCELLED},
        "dispatcher",
        "a cancel was requested before it started",
    ),
    _row(
        JobState.ASSIGNED,
        JobState.FAILED,
        {Reason.START_FAILED, Reason.WORKER_LOST, Reason.POISON},
        "dispatcher",
        "the worker cannot start it, or is lost",
    ),
    _row(
        JobState.ASSIGNED,
        JobState.PENDING,
        {None, Reason.START_FAILED, Reason.WORKER_LOST},
        "dispatcher",
        "proved never started (its number is free again), or its policy retries what happened",
    ),
    _row(JobState.RUNNING, JobState.SUCCEEDED, {None}, "worker", "it ended with exit code 0"),
    _row(JobState.RUNNING, JobState.FAILED, _ENDED, "worker", "it ended otherwise"),
    _row(JobState.RUNNING, JobState.TIMED_OUT, {Reason.TIMEOUT}, "dispatcher", "its timeout"),
    _row(
        JobState.RUNNING,
        JobState.CANCELLED,
        {Reason.CANCELLED},
        "dispatcher",
        "a cancel was requested, and its process tree is gone",
    ),
    _row(
        JobState.RUNNING,
        JobState.PENDING,
        (_ENDED - {Reason.POISON}) | {Reason.TIMEOUT},
        "dispatcher",
        "its policy allows another attempt, after its backoff",
    ),
)
"""Every change of state there is. Nothing else moves a job."""

_ALLOWED = {(row.source, row.target): row.reasons for row in TRANSITIONS}


def check_transition(source: JobState, target: JobState, reason: Reason | None) -> None:
    """Refuse a change of state that the table does not hold.

    Raises:
        ValueError: the table holds no such change, or not for this reason.
    """
    reasons = _ALLOWED.get((source, target))
    if reasons is None or reason not in reasons:
        why = "" if reason is None else f" for {reason.name}"
        msg = f"a job cannot go from {source.name} to {target.name}{why}"
        raise ValueError(msg)
