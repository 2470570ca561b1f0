"""What hosts that are not registered any more have left: workers to end, jobs to give back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import attrs

from hodei_core.clock import Clock
from hodei_core.endings import Ending
from hodei_core.ids import WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import (
    CancelRequest,
    Evidence,
    EvidenceKind,
    HostRegistry,
    RemoveWorker,
    Store,
    WorkerProvider,
)
from hodei_core.retry import Backoff
from hodei_core.runtime.interrupts import Start
from hodei_core.runtime.patience import insist
from hodei_core.states import JobState, Reason
from hodei_core.workers import Worker, WorkerState

logger: logging.Logger = logging.getLogger(__name__)

_LATE_SECONDS = 60.0  # for which an ask of a dead host may still be answered by a worker
_PAUSE = Backoff(first=timedelta(milliseconds=200), max=timedelta(seconds=5), jitter=0)


class Rescuer(Protocol):
    """Who writes how rescued attempts ended."""

    def rescue(self, job: Job, ending: Ending) -> None:
        """Write the end of an attempt of a dead host, unless somebody else does first."""


class Rescue:
    """Ends the workers of dead hosts, then closes the attempts that were on them.

    In this order, so that no attempt is given to anybody while its old execution may live. Any
    number of hosts may do it at the same time: ending is idempotent, and of the writes that
    close an attempt the first one counts.

    A worker that was on its way is looked for once more after a while: what makes workers may
    answer an ask whose asker is dead.
    """

    def __init__(
        self,
        *,
        hosts: HostRegistry,
        store: Store,
        clock: Clock,
        rescuer: Rescuer,
        provider: Callable[[str], WorkerProvider | None],
    ) -> None:
        self._hosts = hosts
        self._store = store
        self._clock = clock
        self._rescuer = rescuer
        self._provider = provider
        self._at_work: dict[WorkerId, str | None] = {}
        self._closing = False
        """Whether jobs without a worker are being closed."""

    def obstacle(self, worker_id: WorkerId) -> str | None:
        """Return why a dead host's worker could not be ended when that was tried last."""
        return self._at_work.get(worker_id)

    async def look(self, start: Start) -> None:
        """Begin with what is there: a task for each worker, and one for the jobs without any.

        Raises:
            HodeiError: the store refuses.
        """
        # First the jobs: of a host that is removed between the two looks, the workers are seen.
        jobs = await self._hosts.abandoned_jobs()
        workers = await self._hosts.abandoned_workers()
        for worker in workers:
            provider = self._provider(worker.provider)
            if provider is not None and worker.id not in self._at_work:
                self._at_work[worker.id] = None
                start(self._see_to, worker, provider, name=f"hodei rescue of {worker.id}")
        there = {worker.id for worker in workers}
        alone = [job for job in jobs if job.attempt.worker_id not in there]
        if alone and not self._closing:
            self._closing = True
            start(self._close_all, alone, name="hodei rescue of jobs")

    async def _close_all(self, jobs: list[Job]) -> None:
        """Close jobs whose workers are gone, one after the other."""
        try:
            for job in jobs:
                provider = self._provider(job.attempt.provider)
                if provider is not None:
                    await self._close(job, provider)
        finally:
            self._closing = False

    async def _see_to(self, worker: Worker, provider: WorkerProvider) -> None:
        try:
            await self._discard(worker, provider)
            for job in await insist(self._hosts.abandoned_jobs, "list what a dead host left"):
                if job.attempt.worker_id == worker.id:
                    await self._close(job, provider)
            if worker.state is WorkerState.PROVISIONING:
                await self._clock.sleep(_LATE_SECONDS)
                await self._discard(worker, provider)
            await insist(lambda: self._store.apply([RemoveWorker(worker.id)]), "note a worker")
        finally:
            del self._at_work[worker.id]

    async def _discard(self, worker: Worker, provider: WorkerProvider) -> None:
        tries = 0
        while True:
            try:
                await provider.discard(worker.id)
            except Exception as error:
                tries += 1
                self._at_work[worker.id] = str(error) or repr(error)
                pause = _PAUSE.pause(tries, 0.5).total_seconds()
                logger.warning(
                    "worker %s of a dead host could not be ended, tried again in %s s: %s",
                    worker.id,
                    pause,
                    error,
                    extra={"worker_id": worker.id, "action": "rescue"},
                )
                await self._clock.sleep(pause)
            else:
                self._at_work[worker.id] = None
                return

    async def _close(self, job: Job, provider: WorkerProvider) -> None:
        try:
            evidence = await provider.evidence(job.attempt, job.id)
        except Exception:
            logger.exception("provider %s could not say what became of job %s", provider, job.id)
            return
        ending = _ending(job, evidence)
        request = await insist(lambda: self._request(job), "list cancel requests")
        if request is not None:
            ending = attrs.evolve(ending, cause=Reason.CANCELLED, message=request.reason)
        self._rescuer.rescue(job, ending)

    async def _request(self, job: Job) -> CancelRequest | None:
        """Return the request that is stored with a job of a dead host."""
        host_id = job.attempt.host_id
        if host_id is None:
            return None
        return dict(await self._hosts.cancel_requests(host_id)).get(job.id)


def _ending(job: Job, evidence: Evidence) -> Ending:
    if evidence.kind is EvidenceKind.EXITED and evidence.exit is not None:
        return Ending(exit=evidence.exit, at=evidence.at)
    if evidence.kind is EvidenceKind.NEVER_STARTED and job.state is JobState.ASSIGNED:
        return Ending(never_started=True, message="its host died before it was started")
    return Ending(cause=Reason.WORKER_LOST, message="its host died")
