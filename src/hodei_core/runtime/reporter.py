"""Tells what happened to jobs: one event and one log record for each fact."""

from __future__ import annotations

import logging
from datetime import datetime

from hodei_core import job_events
from hodei_core.events import JobStuck
from hodei_core.jobs import Job
from hodei_core.ports import News
from hodei_core.runtime.event_bus import EventBus
from hodei_core.states import JobState

logger: logging.Logger = logging.getLogger("hodei_core.jobs")


class Reporter:
    """Publishes a change of a job after the commit that holds it, and logs it.

    Of a shared store only the store knows in which order the changes of several hosts came:
    there events are published as it tells them (`news`), this host's own among them.
    """

    def __init__(self, bus: EventBus, *, shared: bool) -> None:
        self._bus = bus
        self._shared = shared

    @property
    def heard(self) -> bool:
        """Whether anybody listens to events."""
        return bool(self._bus)

    def submitted(self, job: Job) -> None:
        """Tell that a job was accepted."""
        self._log(job, "submitted")
        if self._bus and not self._shared:
            self._bus.publish(job_events.submitted(job))

    def assigned(self, job: Job) -> None:
        """Tell that a worker is to run the job."""
        self._log(job, "assigned")
        if self._bus and not self._shared:
            self._bus.publish(job_events.assigned(job))

    def started(self, job: Job) -> None:
        """Tell that the attempt runs."""
        self._log(job, "started")
        if self._bus and not self._shared:
            self._bus.publish(job_events.started(job))

    def finished(self, job: Job) -> None:
        """Tell that a job which had no open attempt is final."""
        self._ended(JobState.PENDING, 0, job)

    def ended(self, stored: Job, ended: Job) -> None:
        """Tell that an attempt ended, which took the job from one stored value to the next.

        A start that no commit had recorded yet is told first.
        """
        number = stored.attempt.number
        if stored.state is JobState.ASSIGNED and logger.isEnabledFor(logging.INFO):
            closed = next((a for a in ended.attempts if a.number == number), None)
            if closed is not None and closed.started_at is not None:
                self._log(stored.started(closed.started_at), "started")
        self._ended(stored.state, number, ended)

    def _ended(self, before: JobState, number: int, job: Job) -> None:
        if job.state.is_final:
            self._log(job, "finished")
        else:
            kept = bool(job.attempts) and job.attempts[-1].number == number
            self._log(job, "retried" if kept else "returned")
        if self._bus and not self._shared:
            for event in job_events.ended(before, number, job):
                self._bus.publish(event)

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

    def news(self, news: News) -> None:
        """Publish what a shared store tells."""
        if news.missed:
            self._bus.skip(news.missed)
        for event in news.events:
            self._bus.publish(event)

    def _log(self, job: Job, action: str) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        attempt = job.attempts[-1] if job.attempts and action != "submitted" else None
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
