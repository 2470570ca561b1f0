"""A store in the memory of the host: nothing outlives the process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from operator import is_
from typing import Any

from hodei_core.backends.memory.logs import MemoryLogStore
from hodei_core.backends.memory.queue import MemoryJobQueue, queue_order
from hodei_core.backends.memory.readers import MemoryJobRepository, MemoryWorkerRegistry
from hodei_core.checks import whole_number
from hodei_core.errors import KeyConflictError, QueueFullError
from hodei_core.ids import HostId, JobId
from hodei_core.jobs import Job
from hodei_core.ports import (
    Accept,
    Advance,
    AppendLogs,
    CancelRequest,
    Change,
    JobQueue,
    JobRepository,
    LogStore,
    MarkDue,
    Outcome,
    Prune,
    PutWorker,
    RemoveWorker,
    RequestCancel,
    Store,
    Submission,
    WorkerRegistry,
)
from hodei_core.ports.acceptance import makers
from hodei_core.states import JobState

_JOB_LOG_BYTES = 64 * 1024 * 1024
_APPLIED = Outcome()
_OPEN = (JobState.ASSIGNED, JobState.RUNNING)


class MemoryStore(Store):
    """Keeps jobs, workers and logs in memory, bounded.

    At most `keep` final jobs are kept; beyond that the oldest go, their logs with them. Logs
    take at most 64 MiB a job and `log_bytes` together; beyond that the logs of the oldest
    final jobs go, then the oldest entries of whichever log is the largest. Readers are told what
    is missing.
    """

    durable = False

    def __init__(self, *, keep: int = 100_000, log_bytes: int = 256 * 1024 * 1024) -> None:
        self._keep = whole_number("keep", keep, least=1)
        log_bytes = whole_number("log_bytes", log_bytes, least=0)
        self._table: dict[JobId, Job] = {}
        self._counts = dict.fromkeys(JobState, 0)
        self._final: deque[JobId] = deque()
        self._keys: dict[str, JobId] = {}
        self._cancels: dict[JobId, CancelRequest] = {}
        self._seq = 0
        self._host: HostId | None = None
        self._queue = MemoryJobQueue(self._table)
        self._logs = MemoryLogStore(job_bytes=min(_JOB_LOG_BYTES, log_bytes), total_bytes=log_bytes)
        self._repository = MemoryJobRepository(self._table, self._counts)
        self._registry = MemoryWorkerRegistry()
        self._make: dict[type[Any], Callable[[Any], Outcome]] = {
            Accept: self._accept,
            Advance: self._advance,
            AppendLogs: self._append_logs,
            MarkDue: self._mark_due,
            Prune: self._prune,
            PutWorker: self._put_worker,
            RemoveWorker: self._remove_worker,
            RequestCancel: self._request_cancel,
        }

    @property
    def queue(self) -> JobQueue:
        return self._queue

    @property
    def jobs(self) -> JobRepository:
        return self._repository

    @property
    def workers(self) -> WorkerRegistry:
        return self._registry

    @property
    def logs(self) -> LogStore:
        return self._logs

    async def open(self, host_id: HostId) -> None:
        if self._host is not None:
            msg = "this MemoryStore belongs to another open Hodei"
            raise RuntimeError(msg)
        self._host = host_id

    async def close(self) -> None:
        self._host = None

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        # No await in here: the changes are made all together or, if cancelled before, not at all.
        make = self._make
        return [make[type(change)](change) for change in changes]

    def _accept(self, change: Accept) -> Outcome:
        try:
            found = makers(change, self._holder, self._pending)
        except (KeyConflictError, QueueFullError) as error:
            return Outcome(applied=False, error=error)
        jobs: list[Job] = []
        made: dict[JobId, Job] = {}
        for submission, maker in zip(change.submissions, found, strict=True):
            if maker is submission:
                made[submission.id] = self._store(submission)
            jobs.append(maker if isinstance(maker, Job) else made[maker.id])
        new = tuple(map(is_, found, change.submissions))
        return Outcome(jobs=tuple(jobs), new=new)

    def _holder(self, key: str) -> Job | None:
        job_id = self._keys.get(key)
        return None if job_id is None else self._table[job_id]

    def _pending(self) -> int:
        return self._counts[JobState.PENDING]

    def _store(self, submission: Submission) -> Job:
        self._seq += 1
        job = submission.job(self._seq)
        attempt = submission.attempt
        if attempt is not None and self._registry.has_room(attempt.worker_id):
            job = submission.begun(job)
            self._registry.hold(job)
        else:
            self._queue.put(job)
        self._table[job.id] = job
        self._counts[job.state] += 1
        if job.spec.key is not None:
            self._keys[job.spec.key] = job.id
        return job

    def _advance(self, change: Advance) -> Outcome:
        job = change.job
        current = self._table.get(job.id)
        if current is None or current.version != change.expected:
            return Outcome(applied=False, jobs=() if current is None else (current,))
        if job.state is JobState.ASSIGNED and not self._registry.has_room(job.attempt.worker_id):
            return Outcome(applied=False, jobs=(current,))
        cancel = self._cancels.get(job.id)
        if change.unless_cancelled and cancel is not None:
            return Outcome(applied=False, jobs=(current,), cancel=cancel)
        self._table[job.id] = job
        self._counts[current.state] -= 1
        self._counts[job.state] += 1
        if current.state is JobState.PENDING:
            self._queue.discard(current)
        if current.state in _OPEN and job.state not in _OPEN:
            self._registry.release(current, _freed_at(current, job))
        elif job.state is JobState.ASSIGNED:
            self._registry.hold(job)
        if job.state is JobState.PENDING:
            self._queue.put(job)
        if change.torn:
            self._logs.tear(job.id, job.attempt)
        if job.state.is_final:
            self._finish(job)
        return _APPLIED if cancel is None else Outcome(cancel=cancel)

    def _finish(self, job: Job) -> None:
        self._cancels.pop(job.id, None)
        self._logs.finish(job.id)
        self._final.append(job.id)
        while len(self._final) > self._keep:
            self._forget(self._final.popleft())

    def _forget(self, job_id: JobId) -> None:
        job = self._table.pop(job_id)
        self._counts[job.state] -= 1
        self._logs.forget(job_id)
        key = job.spec.key
        if key is not None and self._keys.get(key) == job_id:
            del self._keys[key]

    def _request_cancel(self, change: RequestCancel) -> Outcome:
        jobs = [self._table[job_id] for job_id in change.job_ids if job_id in self._table]
        for job in jobs:
            if not job.state.is_final:
                self._cancels.setdefault(job.id, change.request)
        return Outcome(jobs=tuple(jobs))

    def _mark_due(self, change: MarkDue) -> Outcome:
        jobs = sorted((job.due() for job in self._queue.pop_due(change.now)), key=queue_order)
        for job in jobs:
            self._table[job.id] = job
            self._queue.put(job)
        return Outcome(jobs=tuple(jobs))

    def _append_logs(self, change: AppendLogs) -> Outcome:
        if change.job_id not in self._table:
            return Outcome(applied=False)
        self._logs.append(change.job_id, change.segments)
        return _APPLIED

    def _put_worker(self, change: PutWorker) -> Outcome:
        self._registry.put(change.worker)
        return _APPLIED

    def _remove_worker(self, change: RemoveWorker) -> Outcome:
        self._registry.remove(change.worker_id)
        return _APPLIED

    def _prune(self, change: Prune) -> Outcome:
        before, limit = change.before, change.limit
        kept: list[JobId] = []
        count = 0
        more = False
        while self._final and not more:
            job_id = self._final.popleft()
            at = self._table[job_id].finished_at
            is_old = at is not None and at < before
            more = is_old and count == limit
            if is_old and not more:
                self._forget(job_id)
                count += 1
            else:
                kept.append(job_id)
        self._final.extendleft(reversed(kept))
        return Outcome(count=count, more=more)


def _freed_at(current: Job, job: Job) -> datetime | None:
    """Return when the job let its slot go; None if its attempt never started."""
    if job.finished_at is not None:
        return job.finished_at
    return job.attempt.finished_at if len(job.attempts) == len(current.attempts) else None
