"""The contract of the reading side that shows what waits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.scheduling.needs import Needs


class JobQueue(ABC):
    """What waits in a store. Reading takes nothing; `Store.apply` takes.

    A job is *eligible* when it is PENDING and was let in: at its submission if it had no
    delay, by `MarkDue` otherwise. Eligible jobs are ordered by priority, highest first, then
    by submission; a job that comes back keeps its place.
    """

    @abstractmethod
    async def needs(self) -> list[Needs]:
        """Return each class of needs in which a job is eligible."""

    @abstractmethod
    async def peek(self, needs: Needs, limit: int) -> list[Job]:
        """Return the first eligible jobs of a class, in order, at most `limit`."""

    @abstractmethod
    async def position(self, job_id: JobId) -> int | None:
        """Return how many jobs of its class are ahead of an eligible job; None if it is none."""

    @abstractmethod
    async def next_due(self) -> datetime | None:
        """Return when the next delayed or backing-off job is due; None if there is none."""

    @abstractmethod
    async def overdue(
        self, before: datetime, after: tuple[datetime, int] | None, limit: int
    ) -> list[Job]:
        """Return eligible jobs due at or before an instant, by `due_at` and `seq`.

        `after` is the `(due_at, seq)` of the last one already seen.
        """

    async def expiring(self, after: tuple[datetime, int] | None, limit: int) -> list[Job]:
        """Return PENDING jobs that expire (see `Job.expires_at`), the soonest first.

        `after` is the `(expires_at, seq)` of the last one already seen. A store that does not
        outlive its host knows of none that its host does not know.
        """
        del after, limit
        return []
