"""The verbs that the suites of a store speak, and what every one of them shares."""

# ruff: noqa: S101 - a suite asserts

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio

from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.logs import LogSegment
from hodei_core.ports import (
    Accept,
    Advance,
    AppendLogs,
    CancelRequest,
    Change,
    MarkDue,
    Needs,
    Outcome,
    PutWorker,
    RequestCancel,
    Store,
    Submission,
)
from hodei_core.states import JobState, Reason
from hodei_core.testing.contracts.samples import WORKER, at, submission, worker

HOST = HostId("host")


class StoreDriver:
    """A store and short names for what is done to it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def apply(self, change: Change) -> Outcome:
        """Make one change."""
        (outcome,) = await self.store.apply([change])
        return outcome

    async def accept(self, *submissions: Submission, max_pending: int | None = None) -> Outcome:
        """Ask for jobs, in one change."""
        return await self.apply(Accept(submissions, max_pending=max_pending))

    async def add(self, job_id: str, *, seconds: float = 0, **fields: Any) -> Job:
        """Store a new job, which must be accepted."""
        outcome = await self.accept(submission(job_id, seconds=seconds, **fields))
        assert outcome.error is None
        assert outcome.new == (True,)
        return outcome.jobs[0]

    async def add_worker(self, worker_id: str = WORKER, *, slots: int = 1_000) -> None:
        """Register a worker."""
        await self.apply(PutWorker(worker(worker_id, slots=slots)))

    async def try_move(self, job: Job, new: Job) -> Outcome:
        """Replace a job if the store has it as it is given here."""
        return await self.apply(Advance(new, job.version))

    async def move(self, job: Job, new: Job) -> Job:
        """Replace a job, which must succeed."""
        outcome = await self.try_move(job, new)
        assert outcome.applied, f"{job.id} could not go to {new.state.name}"
        return new

    async def assign(self, job: Job, worker_id: str = WORKER, *, seconds: float = 1) -> Job:
        """Assign a job to a worker, which must succeed."""
        return await self.move(job, job.assigned(WorkerId(worker_id), "provider", at(seconds)))

    async def start(self, job: Job, *, seconds: float = 2) -> Job:
        """Assign a job if it is not, and start it."""
        if job.state is JobState.PENDING:
            job = await self.assign(job)
        return await self.move(job, job.started(at(seconds)))

    async def finish(self, job: Job, *, seconds: float = 3) -> Job:
        """Bring a job to its good end."""
        if job.state is not JobState.RUNNING:
            job = await self.start(job)
        new = job.finished(JobState.SUCCEEDED, None, at=at(seconds), exit_code=0)
        return await self.move(job, new)

    async def cancel(self, job: Job, *, seconds: float = 3) -> Job:
        """End a job as CANCELLED."""
        new = job.finished(JobState.CANCELLED, Reason.CANCELLED, at=at(seconds))
        return await self.move(job, new)

    async def retry(self, job: Job, *, due: float, seconds: float = 3) -> Job:
        """Fail a running attempt; the next is due at `at(due)`."""
        new = job.to_retry(Reason.EXIT_CODE, at=at(seconds), due_at=at(due), exit_code=1)
        return await self.move(job, new)

    async def give_back(self, job: Job, *, due: float) -> Job:
        """Give an assigned job back, to be tried again at `at(due)`."""
        return await self.move(job, job.returned("no descriptors", at=at(due), due_at=at(due)))

    async def request_cancel(self, *jobs: Job, reason: str | None = None) -> Outcome:
        """Store a wish that jobs end."""
        request = CancelRequest(at=at(0), reason=reason)
        return await self.apply(RequestCancel(tuple(job.id for job in jobs), request))

    async def mark_due(self, seconds: float) -> list[str]:
        """Let in what is due at `at(seconds)`; return the ids in the order of the outcome."""
        return ids((await self.apply(MarkDue(at(seconds)))).jobs)

    async def append(self, job: Job, *segments: LogSegment) -> Outcome:
        """Append to a job's log."""
        return await self.apply(AppendLogs(job.id, segments))

    async def get(self, job: Job | str) -> Job | None:
        """Return a job as it is stored."""
        job_id = job if isinstance(job, str) else job.id
        return await self.store.jobs.get(JobId(job_id))

    async def waiting(self, job: Job | None = None, *, limit: int = 10_000) -> list[str]:
        """Return the ids of the eligible jobs of this one's class, or of the plain class."""
        needs = Needs() if job is None else Needs.of(job.spec)
        return ids(await self.store.queue.peek(needs, limit))

    async def total(self) -> int:
        """Return how many jobs are stored."""
        return sum((await self.store.jobs.counts()).values())


def ids(jobs: list[Job] | tuple[Job, ...]) -> list[str]:
    """Return the ids of jobs, in their order."""
    return [str(job.id) for job in jobs]


class StoreSuite:
    """What every suite of a store shares: how to get one.

    Say once how a store of yours is made, and mix that into each suite:

    ```python
    class Mine(StoreSuite):
        async def make_store(self) -> Store:
            return MyStore(...)


    class TestMyQueue(Mine, QueueContract): ...
    ```

    The tests are `async`: run them by anyio's pytest plugin or another. A fixture that a
    store needs, such as a folder, is an autouse fixture of your class.
    """

    limit_seconds: ClassVar[float] = 30
    """How long one test may take before it fails."""

    async def make_store(self) -> Store:
        """Return a new store that is empty and not open. Override this."""
        raise NotImplementedError

    async def make_again(self, store: Store) -> Store:
        """Return a store with the content of one that was closed: the same, unless overridden."""
        return store

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[StoreDriver]:
        """Make a store, open it, and close it afterwards."""
        with anyio.fail_after(self.limit_seconds):
            store = await self.make_store()
            await store.open(HOST)
            try:
                yield StoreDriver(store)
            finally:
                with anyio.CancelScope(shield=True):
                    await store.close()
