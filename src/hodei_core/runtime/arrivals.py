"""Jobs on their way into the store: a job that finds a slot free is stored as assigned to it.

So it costs one commit, and not one to be accepted and one to be assigned.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from hodei_core.ids import JobId
from hodei_core.jobs import Attempt, Job
from hodei_core.ports import JobRepository, Submission
from hodei_core.runtime.patience import stored
from hodei_core.states import JobState

_LAST = 1 << 62  # the place of a job that has none yet: behind all others


class Arrivals:
    """Holds slots for jobs until it is known what became of them.

    Args:
        jobs: what is stored.
        hold: takes a slot for a job, unless it has to wait; the attempt that may then begin.
        let_go: gives the slot of an attempt of this job back.
    """

    def __init__(
        self,
        *,
        jobs: JobRepository,
        hold: Callable[[Job], Attempt | None],
        let_go: Callable[[Attempt, Job], None],
    ) -> None:
        self._jobs = jobs
        self._hold = hold
        self._let_go = let_go
        self._waiting = 0
        self._held: dict[JobId, tuple[Attempt, Job]] = {}
        self._unsure: list[JobId] = []

    def __len__(self) -> int:
        """How many attempts may yet begin."""
        return len(self._held)

    def __contains__(self, job_id: JobId) -> bool:
        """Whether the attempt of a job may yet begin."""
        return job_id in self._held

    def announce(self, submissions: tuple[Submission, ...]) -> tuple[Submission, ...]:
        """Take note of jobs that are about to be stored, and return them as they may be.

        A job gets an attempt if it comes alone, and no other is on its way that will have to
        wait: that one would be overtaken.
        """
        if len(submissions) == 1 and not self._waiting:
            (submission,) = submissions
            job = submission.job(_LAST)
            attempt = None if submission.spec.delay else self._hold(job)
            if attempt is not None:
                self._held[job.id] = (attempt, job)
                return (attrs.evolve(submission, attempt=attempt),)
        self._waiting += 1
        return submissions

    def settle(self, submission: Submission, job: Job) -> bool:
        """Take note of what one is stored as; return whether its attempt is to begin."""
        held = self._held.pop(submission.id, None)
        if held is None:
            return False
        begins = job.id == submission.id and job.state is JobState.ASSIGNED
        if not begins:
            self._let_go(*held)
        return begins

    def refuse(self, submissions: tuple[Submission, ...]) -> None:
        """Take note that none of these is stored."""
        for submission in submissions:
            held = self._held.pop(submission.id, None)
            if held is not None:
                self._let_go(*held)

    def over(self, submissions: tuple[Submission, ...]) -> None:
        """Take note that these are on their way no more.

        What became of those that were not settled is found out.
        """
        unsure = [one.id for one in submissions if one.id in self._held]
        self._unsure += unsure
        if not any(one.attempt for one in submissions):
            self._waiting -= 1

    async def find_out(self) -> list[Job]:
        """Return the jobs whose attempt is to begin, though nobody was told so."""
        unsure, self._unsure = self._unsure, []
        found: list[Job] = []
        for job_id in unsure:
            job = await stored(self._jobs, job_id)
            attempt, submitted = self._held.pop(job_id)
            if job is not None and job.state is JobState.ASSIGNED and job.attempt == attempt:
                found.append(job)
            else:
                self._let_go(attempt, submitted)
        return found
