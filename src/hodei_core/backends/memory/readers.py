"""The reading sides of a memory store that show jobs and workers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime
from operator import attrgetter

import anyio
import attrs

from hodei_core.errors import JobNotFoundError
from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import JobFilter, JobRepository, WorkerRegistry
from hodei_core.states import JobState
from hodei_core.workers import Worker, WorkerState

_SCAN = 2_000  # jobs looked at before other tasks get their turn
_TAKES_WORK = (WorkerState.READY, WorkerState.BUSY)


class MemoryJobRepository(JobRepository):
    """Jobs by id and by filter; `table` and `counts` are the store's own."""

    def __init__(self, table: dict[JobId, Job], counts: dict[JobState, int]) -> None:
        self._table = table
        self._counts = counts

    async def get(self, job_id: JobId) -> Job | None:
        return self._table.get(job_id)

    async def select(
        self, matching: JobFilter, *, limit: int | None, after: JobId | None = None
    ) -> list[Job]:
        jobs = list(self._table.values())
        end = len(jobs)
        if after is not None:
            if after not in self._table:
                msg = f"no job {after!r}"
                raise JobNotFoundError(msg, job_id=after)
            end = bisect_left(jobs, self._table[after].seq, key=attrgetter("seq"))
        found: list[Job] = []
        for place in range(end - 1, -1, -1):
            if limit is not None and len(found) >= limit:
                break
            if matching.matches(jobs[place]):
                found.append(jobs[place])
            if (end - place) % _SCAN == 0:
                await anyio.sleep(0)
        return found

    async def counts(self) -> Mapping[JobState, int]:
        return dict(self._counts)


class MemoryWorkerRegistry(WorkerRegistry):
    """Workers, and the slots that open jobs hold of them."""

    def __init__(self) -> None:
        self._workers: dict[WorkerId, Worker] = {}
        self._held: dict[WorkerId, dict[JobId, None]] = {}
        self._idle_since: dict[WorkerId, datetime | None] = {}

    def put(self, worker: Worker) -> None:
        self._workers[worker.id] = worker
        self._held.setdefault(worker.id, {})
        if self._idle_since.get(worker.id) is None:
            self._idle_since[worker.id] = worker.ready_at

    def remove(self, worker_id: WorkerId) -> None:
        self._workers.pop(worker_id, None)
        self._held.pop(worker_id, None)
        self._idle_since.pop(worker_id, None)

    def has_room(self, worker_id: WorkerId) -> bool:
        worker = self._workers.get(worker_id)
        return (
            worker is not None
            and worker.state in _TAKES_WORK
            and len(self._held[worker_id]) < worker.slots
        )

    def hold(self, job: Job) -> None:
        self._held[job.attempt.worker_id][job.id] = None

    def release(self, job: Job, at: datetime | None) -> None:
        attempt = job.attempt
        held = self._held.get(attempt.worker_id)
        if held is None:
            return
        held.pop(job.id, None)
        if at is None:  # it never started, so nobody knows when the slot became free again
            at = attempt.assigned_at
            at = max(at, self._idle_since[attempt.worker_id] or at)
        self._idle_since[attempt.worker_id] = at

    async def select(self) -> list[Worker]:
        return [self._shown(worker) for worker in self._workers.values()]

    def _shown(self, worker: Worker) -> Worker:
        held = self._held[worker.id]
        state = worker.state
        if state in _TAKES_WORK:
            state = WorkerState.BUSY if len(held) >= worker.slots else WorkerState.READY
        return attrs.evolve(
            worker,
            state=state,
            slots_used=len(held),
            jobs=tuple(held),
            idle_since=None if held else self._idle_since[worker.id],
        )
