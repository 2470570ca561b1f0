"""What becomes of new jobs: the rule of keys and of the bound, the same in every store."""

from __future__ import annotations

from collections.abc import Callable

from hodei_core.errors import KeyConflictError, QueueFullError
from hodei_core.jobs import Job
from hodei_core.ports.changes import Accept, Submission


def makers(
    change: Accept, holder_of: Callable[[str], Job | None], pending: Callable[[], int]
) -> list[Job | Submission]:
    """Return for each submission what its job comes from; nothing is stored yet.

    Itself, the job that holds its key, or a submission before it with the same key.

    Args:
        change: the new jobs.
        holder_of: returns the stored job that holds a key.
        pending: returns how many jobs are PENDING.

    Raises:
        KeyConflictError: a key belongs to other work, or to a job that has not ended.
        QueueFullError: there would be more PENDING jobs than allowed.
    """
    found: list[Job | Submission] = []
    claimed: dict[str, Submission] = {}
    wanted = 0
    for submission in change.submissions:
        key = submission.spec.key
        if key is None:
            found.append(submission)
            wanted += 1
        elif key in claimed:
            found.append(_twin(claimed[key], submission))
        elif (holder := _holder(holder_of(key), submission)) is not None:
            found.append(holder)
        else:
            claimed[key] = submission
            found.append(submission)
            wanted += 1
    most = change.max_pending
    if most is not None and wanted and (waiting := pending()) + wanted > most:
        msg = f"max_pending is {most}: {waiting} pending, {wanted} more refused"
        raise QueueFullError(msg, max_pending=most)
    return found


def _holder(holder: Job | None, submission: Submission) -> Job | None:
    """Return the holder of a submission's key if it does the work; None if the key is free."""
    if holder is None:
        return None
    if submission.retried_from is not None:
        if holder.id == submission.retried_from or holder.state.is_final:
            return None
    elif holder.spec.same_work(submission.spec):
        return holder
    msg = f"key {submission.spec.key!r} belongs to job {holder.id}"
    raise KeyConflictError(msg, key=submission.spec.key or "", job_id=holder.id)


def _twin(first: Submission, second: Submission) -> Submission:
    """Return the first of two submissions with one key, if both ask for the same."""
    if second.retried_from is None and first.spec.same_work(second.spec):
        return first
    msg = f"key {first.spec.key!r} is given to two different jobs"
    raise KeyConflictError(msg, key=first.spec.key or "", job_id=first.id)
