"""Which events follow from a change of a job, for its host and for those that share its store."""

from __future__ import annotations

from datetime import datetime

from hodei_core.events import (
    JobAssigned,
    JobEvent,
    JobFinished,
    JobRetried,
    JobStarted,
    JobSubmitted,
)
from hodei_core.jobs import Attempt, Job
from hodei_core.states import JobState


def submitted(job: Job) -> JobSubmitted:
    """Return that a job was accepted, whatever it is by now."""
    return JobSubmitted(at=job.submitted_at, job_id=job.id, version=1, name=job.spec.name)


def assigned(job: Job) -> JobAssigned:
    """Return that a worker is to run a job."""
    attempt = job.attempt
    return JobAssigned(
        at=attempt.assigned_at,
        job_id=job.id,
        version=job.version,
        worker_id=attempt.worker_id,
        attempt=attempt.number,
    )


def started(job: Job) -> JobStarted:
    """Return that the attempt of a job runs."""
    assert job.attempt.started_at is not None  # noqa: S101 - it has just started
    return _started(job, job.attempt, job.attempt.started_at, job.version)


def moved(before: JobState, number: int, job: Job) -> tuple[JobEvent, ...]:
    """Return what follows from a change of a job's state; the arguments are those of `ended`."""
    if job.state is before:
        return ()
    if job.state is JobState.ASSIGNED:
        return (assigned(job),)
    if job.state is JobState.RUNNING:
        return (started(job),)
    return ended(before, number, job)


def ended(before: JobState, number: int, job: Job) -> tuple[JobEvent, ...]:
    """Return what follows from the end of an attempt, or of a job that had none open.

    A start that no commit had recorded yet is told first.

    Args:
        before: the state that was stored before.
        number: the number of the attempt that was open; 0 if there was none.
        job: the job as it is now, PENDING again or final.
    """
    closed = next((a for a in reversed(job.attempts) if a.number == number), None)
    told: list[JobEvent] = []
    if before is JobState.ASSIGNED and closed is not None and closed.started_at is not None:
        told.append(_started(job, closed, closed.started_at, job.version - 1))
    told.append(_finished(job) if job.state.is_final else _moved_back(job, number, closed))
    return tuple(told)


def _started(job: Job, attempt: Attempt, at: datetime, version: int) -> JobStarted:
    return JobStarted(
        at=at,
        job_id=job.id,
        version=version,
        worker_id=attempt.worker_id,
        attempt=attempt.number,
    )


def _moved_back(job: Job, number: int, closed: Attempt | None) -> JobRetried:
    # An attempt that was proved never started is gone; its time is among the phases.
    at = job.phases[-1].until if closed is None else closed.finished_at
    assert at is not None  # noqa: S101 - it is closed
    return JobRetried(
        at=at,
        job_id=job.id,
        version=job.version,
        attempt=number,
        reason=None if closed is None else closed.reason,
        due_at=job.due_at,
    )


def _finished(job: Job) -> JobFinished:
    assert job.finished_at is not None  # noqa: S101 - it is final
    return JobFinished(
        at=job.finished_at,
        job_id=job.id,
        version=job.version,
        state=job.state,
        reason=job.reason,
        exit_code=job.exit_code,
    )
