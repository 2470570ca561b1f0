"""Ends jobs that never started: cancelled, expired, or left when their store closes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from hodei_core.clock import Clock
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.phases import Phase
from hodei_core.ports import Advance, JobRepository, Outcome
from hodei_core.runtime.patience import stored
from hodei_core.runtime.plan import Plan
from hodei_core.states import JobState, Reason


class Unstarted:
    """Plans the final state of PENDING jobs, which nobody is to assign from then on."""

    def __init__(
        self,
        *,
        jobs: JobRepository,
        clock: Clock,
        discard: Callable[[Job], None],
        waited: Callable[[Job, datetime], tuple[Phase, ...]],
        ended: Callable[[Job], None],
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._discard = discard
        self._waited = waited
        self._ended = ended

    async def plan_cancel(self, plan: Plan, job_id: JobId, why: str | None) -> None:
        """Plan the end of a job that somebody cancelled, if it waits."""
        job = await stored(self._jobs, job_id)
        if job is not None and job.state is JobState.PENDING:
            self._plan_end(plan, job, JobState.CANCELLED, Reason.CANCELLED, why)

    async def plan_expiry(self, plan: Plan, job_id: JobId) -> None:
        """Plan the end of a job whose pending_timeout has passed, if it still waits to start.

        Another host may have started it since the timer was armed.
        """
        job = await stored(self._jobs, job_id)
        if job is not None and job.expires_at is not None:
            self._plan_end(plan, job, JobState.FAILED, Reason.PENDING_TIMEOUT, None)

    def plan_interruption(self, plan: Plan, job: Job) -> None:
        """Plan the end of a job that its memory store cannot keep."""
        self._plan_end(plan, job, JobState.CANCELLED, Reason.INTERRUPTED, None)

    def _plan_end(
        self, plan: Plan, job: Job, state: JobState, reason: Reason, message: str | None
    ) -> None:
        now = self._clock.now()
        waited = self._waited(job, now)
        self._discard(job)
        final = job.finished(state, reason, at=now, message=message, waited=waited)
        plan.add(Advance(final, job.version), partial(self._settle, final))

    def _settle(self, final: Job, outcome: Outcome) -> None:
        if outcome.applied:
            self._ended(final)
