"""Tells what happened to jobs: one event and one log record for each fact."""

from __future__ import annotations

import logging
from datetime import datetime

from hodei_core.events import (
    JobAssigned,
    JobFinished,
    JobRetried,
    JobStarted,
    JobStuck,
    JobSubmitted,
)
from hodei_core.jobs import Job
from hodei_core.runtime.event_bus import EventBus
from hodei_core.states import JobState

logger: logging.Logger = logging.getLogger("hodei_core.jobs")


class Reporter:
    """Publishes a change of a job after the commit that holds it, and logs it."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    def submitted(self, job: Job) -> None:
        """Tell that a job was accepted."""
        self._log(job, "submitted")
        if self._bus:
            self._bus.publish(
                JobSubmitted(
                    at=job.submitted_at, job_id=job.id, version=job.version, name=job.spec.name
                )
            )

    def assigned(self, job: Job) -> None:
        """Tell that a worker is to run the job."""
        attempt = job.attempt
        self._log(job, "assigned")
        if self._bus:
            self._bus.publish(
                JobAssigned(
                    at=attempt.assigned_at,
                    job_id=job.id,
                    version=job.version,
                    worker_id=attempt.worker_id,
                    attempt=attempt.number,
                )
            )

    def started(self, job: Job) -> None:
        """Tell that the attempt runs."""
        attempt = job.attempt
        self._log(job, "started")
        if self._bus:
            assert attempt.started_at is not None  # noqa: S101 - it has just started
            self._bus.publish(
                JobStarted(
                    at=attempt.started_at,
                    job_id=job.id,
                    version=job.version,
                    worker_id=attempt.worker_id,
                    attempt=attempt.number,
                )
            )

    def moved_back(self, job: Job, attempt: int, at: datetime) -> None:
        """Tell that the job is PENDING again."""
        last = job.attempts[-1] if job.attempts else None
        closed = last if last is not None and last.number == attempt else None
        self._log(job, "retried" if closed else "returned")
        if self._bus:
            self._bus.publish(
                JobRetried(
                    at=at,
                    job_id=job.id,
                    version=job.version,
                    attempt=attempt,
                    reason=closed.reason if closed else None,
                    due_at=job.due_at,
                )
            )

    def finished(self, job: Job) -> None:
        """Tell that the job is final."""
        assert job.finished_at is not None  # noqa: S101 - it is final
        self._log(job, "finished")
        if self._bus:
            self._bus.publish(
                JobFinished(
                    at=job.finished_at,
                    job_id=job.id,
                    version=job.version,
                    state=job.state,
                    reason=job.reason,
                    exit_code=job.exit_code,
                )
            )

    def stuck(self, job: Job, at: datetime, explanation: str) -> None:
        """Tell that the job has been due for long."""
        logger.warning(
            "job %s is stuck: %s", job.id, explanation, extra={"job_id": job.id, "action": "stuck"}
        )
        self._bus.publish(
            JobStuck(
                at=at,
                job_id=job.id,
                version=job.version,
                waited=at - job.due_at,
                explanation=explanation,
            )
        )

    def ended(self, stored: Job, ended: Job, at: datetime) -> None:
        """Tell that an attempt ended, which took the job from one stored value to the next.

        A start that no commit had recorded yet is told first.
        """
        heard = self._bus or logger.isEnabledFor(logging.INFO)
        if heard and stored.state is JobState.ASSIGNED:
            closed = next((a for a in ended.attempts if a.number == stored.attempt.number), None)
            if closed is not None and closed.started_at is not None:
                self.started(stored.started(closed.started_at))
        if ended.state.is_final:
            self.finished(ended)
        else:
            self.moved_back(ended, stored.attempt.number, at)

    def _log(self, job: Job, action: str) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        attempt = job.attempts[-1] if job.attempts else None
        logger.info(
            "job %s %s%s",
            job.id,
            action,
            f" {job.state.name}" if job.state.is_final else "",
            extra={
                "job_id": job.id,
                "attempt": attempt.number if attempt else None,
                "worker_id": attempt.worker_id if attempt else None,
                "action": action,
            },
        )
