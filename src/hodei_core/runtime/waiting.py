"""What time does to jobs that wait: delays end, pending timeouts pass, waits become long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from hodei_core.clock import Clock
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.ports import JobQueue, MarkDue, Outcome, Store
from hodei_core.runtime.deadlines import Deadline, Deadlines
from hodei_core.runtime.patience import insist
from hodei_core.states import WaitingFor

_EXPIRED_BATCH = 100  # jobs looked at together that may have expired
_STUCK_BATCH = 5  # jobs told of in one step: what else is to be done is not kept waiting
_LATER = (WaitingFor.DELAY, WaitingFor.BACKOFF)


class Waiting:
    """Arms the deadlines of PENDING jobs and says what has come to pass."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        deadlines: Deadlines,
        stuck_after: timedelta | None,
        wake: Callable[[], None],
        unsure: Callable[[], None],
    ) -> None:
        self._unsure = unsure
        self._store = store
        self._queue: JobQueue = store.queue
        self._clock = clock
        self._deadlines = deadlines
        self._stuck_after = stuck_after
        self._wake = wake
        self._expired: list[JobId] = []
        self._pending: dict[JobId, Deadline] = {}
        self._next_due: datetime | None = None
        self._due_timer: Deadline | None = None
        self._due = False
        self._stuck_armed = False
        self._stuck_due = False
        self._told: tuple[datetime, int] | None = None
        self._next_expiry: datetime | None = None
        self._expiry_timer: Deadline | None = None
        self._expiry_due = False

    async def load(self) -> None:
        """Take note of the delayed and the long due jobs that the store holds."""
        due_at = await insist(self._queue.next_due, "tell when a job is due")
        if due_at is not None:
            self._arm_due(due_at)
        for job in await self._overdue(self._clock.now(), 1):
            self._arm_stuck(job.due_at)
        await self._arm_expiry()

    def add(self, job: Job) -> bool:
        """Take note of a job that became PENDING; return whether it is eligible now."""
        expires_at = job.expires_at
        if expires_at is not None and job.id not in self._pending:
            left = (expires_at - self._clock.now()).total_seconds()
            self._pending[job.id] = self._deadlines.after(left, partial(self._expire, job.id))
        if job.waiting_for in _LATER:
            self._arm_due(job.due_at)
            return False
        self._arm_stuck(job.due_at)
        return True

    def discard(self, job_id: JobId) -> None:
        """Take note that a job is no longer PENDING."""
        deadline = self._pending.pop(job_id, None)
        if deadline is not None:
            deadline.cancel()

    def _expire(self, job_id: JobId) -> None:
        self._pending.pop(job_id, None)
        self._expired.append(job_id)
        self._wake()

    def take_expired(self) -> list[JobId]:
        """Return the jobs whose pending_timeout has passed since the last call."""
        expired, self._expired = self._expired, []
        return expired

    async def take_strangers(self) -> list[JobId]:
        """Return the jobs whose pending_timeout has passed and which were not added here.

        They were submitted before this host opened, or by another one.
        """
        if not self._expiry_due:
            return []
        self._expiry_due = False
        now = self._clock.now()
        found: list[JobId] = []
        seen = None
        while True:
            before = seen
            jobs = await self._expiring(seen, _EXPIRED_BATCH)
            for job in jobs:
                if job.expires_at is None:  # the store says otherwise: somebody has edited it
                    continue
                if job.expires_at > now:
                    self._set_expiry(job.expires_at)
                    return found
                seen = (job.expires_at, job.seq)
                if job.id not in self._pending:
                    found.append(job.id)
            if len(jobs) < _EXPIRED_BATCH or seen == before:
                return found

    async def _arm_expiry(self) -> None:
        for job in await self._expiring(None, 1):
            if job.expires_at is not None:
                self._set_expiry(job.expires_at)

    def _set_expiry(self, at: datetime) -> None:
        if self._next_expiry is None or at < self._next_expiry:
            if self._expiry_timer is not None:
                self._expiry_timer.cancel()
            self._next_expiry = at
            left = (at - self._clock.now()).total_seconds()
            self._expiry_timer = self._deadlines.after(left, self._came_expiry)

    def _came_expiry(self) -> None:
        self._next_expiry = self._expiry_timer = None
        self._expiry_due = True
        self._wake()

    async def _expiring(self, seen: tuple[datetime, int] | None, most: int) -> Sequence[Job]:
        return await insist(lambda: self._queue.expiring(seen, most), "list jobs that expire")

    def _arm_due(self, due_at: datetime) -> None:
        if self._next_due is not None and self._next_due <= due_at:
            return
        if self._due_timer is not None:
            self._due_timer.cancel()
        self._next_due = due_at
        left = (due_at - self._clock.now()).total_seconds()
        self._due_timer = self._deadlines.after(left, self._came_due)

    def _came_due(self) -> None:
        self._next_due = self._due_timer = None
        self._due = True
        self._wake()

    def _arm_stuck(self, due_at: datetime) -> None:
        if self._stuck_after is None or self._stuck_armed:
            return
        self._stuck_armed = True
        left = (due_at + self._stuck_after - self._clock.now()).total_seconds()
        self._deadlines.after(left, self._came_stuck)

    def _came_stuck(self) -> None:
        self._stuck_armed = False
        self._stuck_due = True
        self._wake()

    async def came_due(self) -> tuple[Job, ...]:
        """Return the jobs whose delay or backoff has ended since the last call."""
        if not self._due:
            return ()
        calls = 0

        async def mark() -> list[Outcome]:
            nonlocal calls
            calls += 1
            return await self._store.apply([MarkDue(self._clock.now())])

        (outcome,) = await insist(mark, "mark jobs as due")
        if calls > 1:  # a call that seemed to fail may have marked some
            self._unsure()
        self._due = False
        due_at = await insist(self._queue.next_due, "tell when a job is due")
        if due_at is not None:
            self._arm_due(due_at)
        return outcome.jobs

    async def tell_stuck(self, tell: Callable[[Job], Awaitable[None]]) -> None:
        """Tell of some jobs that have been due for `stuck_after`, of each once."""
        if not self._stuck_due or self._stuck_after is None:
            return
        before = self._clock.now() - self._stuck_after
        jobs = await self._overdue(before, _STUCK_BATCH)
        for job in jobs:
            self._told = (job.due_at, job.seq)
            await tell(job)
        if len(jobs) == _STUCK_BATCH:
            self._wake()  # for the others, in a step of their own
            return
        self._stuck_due = False
        for job in await self._overdue(self._clock.now(), 1):
            self._arm_stuck(job.due_at)

    async def _overdue(self, before: datetime, most: int) -> Sequence[Job]:
        told = self._told
        return await insist(
            lambda: self._queue.overdue(before, told, most), "list jobs that wait long"
        )
