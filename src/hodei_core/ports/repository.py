"""The contract of the reading side that shows jobs by id and by filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import attrs

from hodei_core.frozendict import EMPTY, frozen_texts
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.states import JobState
from hodei_core.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobFilter(Value):
    """Which jobs: each condition that is given must hold."""

    states: frozenset[JobState] | None = None
    """Any of these."""

    labels: Mapping[str, str] = attrs.field(default=EMPTY, converter=frozen_texts)
    """All of these, with equal values."""

    name: str | None = None
    """Exactly this."""

    id_prefix: str | None = None
    """An id that begins with this, for people who write the first digits of one."""

    def matches(self, job: Job) -> bool:
        """Return whether the job meets every condition."""
        if self.states is not None and job.state not in self.states:
            return False
        if self.name is not None and job.spec.name != self.name:
            return False
        if self.id_prefix is not None and not job.id.startswith(self.id_prefix):
            return False
        labels = job.spec.labels
        return all(labels.get(key) == value for key, value in self.labels.items())


class JobRepository(ABC):
    """The store of record, read."""

    @abstractmethod
    async def get(self, job_id: JobId) -> Job | None:
        """Return the job as it is stored; None if it is unknown.

        Raises:
            StoreInvalidError: it is stored, and cannot be read; `job_id` is set.
        """

    @abstractmethod
    async def select(
        self, matching: JobFilter, *, limit: int | None, after: JobId | None = None
    ) -> list[Job]:
        """Return jobs that match, the last submitted first.

        `after`: only jobs submitted before that one.

        Raises:
            JobNotFoundError: `after` is unknown.
        """

    @abstractmethod
    async def counts(self) -> Mapping[JobState, int]:
        """Return how many jobs are in each state; every state is named. Cost: constant."""
