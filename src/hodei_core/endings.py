"""What becomes of a job when an attempt ends: the rules of outcome, retry and return."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from hodei_core.executions import Exit
from hodei_core.jobs import Job
from hodei_core.retry import Backoff
from hodei_core.states import JobState, Reason
from hodei_core.values import Value

MAX_RETURNS = 10
"""Free returns in a row after which a job is not tried again."""

MAX_LOSSES = 3
"""Workers lost under one job after which it counts as their poison."""

RETURN_BACKOFF = Backoff(first=timedelta(milliseconds=200), max=timedelta(seconds=30))
"""The pauses after free returns: 0.2 s, 0.4 s, ... 30 s."""

_SIGNALS = range(129, 193)  # 128 + n, for the signal numbers 1 to 64


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Ending(Value):
    """What was seen of an attempt's end."""

    exit: Exit | None = None
    """How it exited; None if it did not, or nobody knows."""

    cause: Reason | None = None
    """Why it was ended, or lost; None if it ended by itself."""

    message: str | None = None
    never_started: bool = False
    """Whether it was proved not to have started."""

    at: datetime | None = None
    """When it ended; None: now."""


def reason_of(exit_: Exit) -> Reason | None:
    """Return why an attempt that ended by itself did not succeed; None if it did.

    A code above 128 is SIGNALLED if `code - 128` is a signal's number: so a shell reports a
    signal, and `exit 137` cannot be told from a kill.
    """
    if exit_.out_of_memory:
        return Reason.OUT_OF_MEMORY
    if exit_.code == 0:
        return None
    return Reason.SIGNALLED if exit_.code in _SIGNALS else Reason.EXIT_CODE


def close_attempt(job: Job, ending: Ending, *, at: datetime, chance: float, durable: bool) -> Job:
    """Return the job as it is after its open attempt ended so.

    `job` is RUNNING, or ASSIGNED if the attempt never started. `chance` in [0, 1) places
    the backoff within its jitter. `durable`: whether the job outlives its host.
    """
    if ending.never_started and ending.cause is not Reason.CANCELLED:
        if ending.cause is Reason.START_FAILED:
            return _ended(job, Reason.START_FAILED, ending, at=at, chance=chance)
        return _give_back(job, ending, at=at, chance=chance)
    reason = ending.cause
    if reason is None and ending.exit is not None:
        reason = reason_of(ending.exit)
    if reason is None:
        assert ending.exit is not None, "an attempt that ended by itself exited"  # noqa: S101
        return job.finished(JobState.SUCCEEDED, None, at=at, exit_code=0, usage=ending.exit.usage)
    if reason is Reason.WORKER_LOST and _losses(job) + 1 >= MAX_LOSSES:
        reason = Reason.POISON
    return _ended(job, reason, ending, at=at, chance=chance, durable=durable)


def _losses(job: Job) -> int:
    return sum(attempt.reason is Reason.WORKER_LOST for attempt in job.attempts)


def _give_back(job: Job, ending: Ending, *, at: datetime, chance: float) -> Job:
    cause = ending.message or "it was not started"
    if ending.cause is Reason.INTERRUPTED:
        return job.returned(cause, at=at, due_at=at)
    pause = RETURN_BACKOFF.pause(len(job.returns) + 1, chance)
    returned = job.returned(cause, at=at, due_at=at + pause)
    if len(returned.returns) < MAX_RETURNS:
        return returned
    causes = "; ".join(dict.fromkeys(returned.returns))
    return returned.finished(
        JobState.FAILED,
        Reason.START_FAILED,
        at=at,
        message=f"given back {MAX_RETURNS} times in a row: {causes}",
    )


def _ended(
    job: Job,
    reason: Reason,
    ending: Ending,
    *,
    at: datetime,
    chance: float,
    durable: bool = False,
) -> Job:
    exit_ = ending.exit or Exit(code=None)
    policy = job.spec.retry
    counted = sum(not attempt.uncounted for attempt in job.attempts)
    requeue = reason is Reason.INTERRUPTED and durable and policy.requeue_interrupted
    again = counted < policy.max_attempts and policy.retries(reason, exit_.code)
    if requeue or (again and (durable or reason is not Reason.INTERRUPTED)):
        pause = timedelta(0) if requeue else policy.backoff.pause(counted, chance)
        return job.to_retry(
            reason,
            at=at,
            due_at=at + pause,
            exit_code=exit_.code,
            usage=exit_.usage,
            uncounted=requeue,
        )
    state = _FINAL.get(reason, JobState.FAILED)
    return job.finished(
        state,
        reason,
        at=at,
        message=ending.message,
        exit_code=exit_.code,
        usage=exit_.usage,
    )


_FINAL = {Reason.CANCELLED: JobState.CANCELLED, Reason.TIMEOUT: JobState.TIMED_OUT}
