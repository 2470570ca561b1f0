"""Jobs, workers and the pure parts of the scheduling in virtual time, without a store.

Does with backlog, index, fairness and scheduler what the assigner does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

from hodei_core.compat import override
from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.resources import Resources
from hodei_core.runtime.fleet_view import SchedulerView
from hodei_core.scheduling.backlog import Backlog, key_of
from hodei_core.scheduling.decisions import Assign, Wait
from hodei_core.scheduling.fairness import Fairness
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.index import WorkerIndex
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.scheduler import Scheduler, SmartScheduler
from hodei_core.specs import JobSpec
from hodei_core.workers import Offer
from tests.scheduling.helpers import NOW

FOR_EVER = float("inf")


class Simulation:
    """A host with these workers, named worker-0, worker-1, ...; time stands still but in `run`."""

    def __init__(self, *workers: Offer, scheduler: Scheduler | None = None) -> None:
        self.now = 0.0
        self.index = WorkerIndex()
        self.view = _View(self.index, self)
        self.fairness = Fairness(self.index)
        self.backlog = Backlog(self._moved_on)
        self.scheduler = scheduler or SmartScheduler()
        self.due: dict[int, float] = {}
        self.ahead_when_due: dict[int, tuple[float, int]] = {}
        """When a watched job was due, and how many others were ahead of it."""

        self.started: dict[int, float] = {}
        self.making: tuple[ProviderView, ...] = ()
        """The providers whose workers are on their way."""

        self.placed: dict[int, WorkerId] = {}
        self.overtaken: dict[int, tuple[float, int]] = {}
        """When a watched job was first overtaken, and how many others were ahead of it."""

        self.watched: set[int] = set()
        self._waiting: dict[int, Job] = {}
        self._length: dict[int, float] = {}
        self._running: dict[int, Job] = {}
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._ends: list[tuple[float, int]] = []
        self._timer: float | None = None
        self._seq = 0
        self._order = 0
        self._workers = 0
        for has in workers:
            self.join(has)

    # What happens to it

    def submit(self, length: float = 1, *, delay: float = 0, **fields: Any) -> int:
        """Submit a job that runs so long, and is due now or after a delay; return its number."""
        job = self._accept(length, fields)
        self._at(self.now + delay, partial(self._add, job))
        return job.seq

    def trickle(
        self, every: float, length: float, *, until: float = FOR_EVER, **fields: Any
    ) -> None:
        """Submit a job that runs so long, now and every so many seconds."""
        self._at(self.now, partial(self._drip, every, length, until, fields))

    def _drip(self, every: float, length: float, until: float, fields: dict[str, Any]) -> None:
        self._add(self._accept(length, fields))
        if self.now + every < until:
            self._at(self.now + every, partial(self._drip, every, length, until, fields))

    def _accept(self, length: float, fields: dict[str, Any]) -> Job:
        self._seq += 1
        self._length[self._seq] = length
        return Job.accepted(
            id=JobId(f"job-{self._seq}"),
            spec=(_spec.__wrapped__ if "requires" in fields else _spec)(**fields),
            seq=self._seq,
            at=NOW,
        )

    def _add(self, job: Job) -> None:
        self._waiting[job.seq] = job
        self.due[job.seq] = self.now
        if job.seq in self.watched:
            self.ahead_when_due[job.seq] = (self.now, self.ahead(job.seq))
        self.backlog.add(job)

    def _at(self, at: float, call: Callable[[], object]) -> None:
        self._order += 1
        heapq.heappush(self._later, (at, self._order, call))

    def cancel(self, seq: int) -> None:
        """Cancel a job that waits, or end one that runs; others are no error."""
        if seq in self._waiting:
            job = self._waiting.pop(seq)
            of = self.backlog.discard(job)
            if of is not None:
                for offer in self.fairness.left(of.number, key_of(job)):
                    self.backlog.wake(offer)
        else:
            self._end(seq)

    def reconsider(self) -> None:
        """Consider every class anew, as a dispatcher does from time to time."""
        self.backlog.wake_all()

    def join(self, has: Offer) -> WorkerId:
        """Let a worker become ready."""
        worker_id = WorkerId(f"worker-{self._workers}")
        self._workers += 1
        self.index.add(worker_id, has)
        self.backlog.wake_all()
        return worker_id

    def lose(self, worker_id: WorkerId) -> None:
        """Lose a worker, and what it runs."""
        for seq in [seq for seq in self._running if self.placed[seq] == worker_id]:
            del self._running[seq]
        self.index.remove(worker_id)
        self.backlog.wake_all()

    def drain(self, worker_id: WorkerId) -> None:
        """Let a worker take no more."""
        self.index.stop(worker_id)
        self.backlog.wake_all()

    # What there is to see

    @property
    def kept(self) -> dict[WorkerId, int]:
        """The workers that are kept, each with the number of the job."""
        if not self.index.keeps:
            return {}
        keys = {w.id: self.index.kept(w.id) for w in self.index.workers()}
        return {worker_id: key[1] for worker_id, key in keys.items() if key is not None}

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def pending(self) -> Iterable[Job]:
        """Return the jobs that wait."""
        return self._waiting.values()

    def running(self) -> Iterable[Job]:
        """Return the jobs that run."""
        return self._running.values()

    def ahead(self, seq: int) -> int:
        """Return how many jobs that wait come before this one."""
        key = key_of(self._waiting[seq])
        return sum(key_of(job) < key for job in self._waiting.values())

    # Time

    def run(self, seconds: float = 0) -> None:
        """Let time pass."""
        until = self.now + seconds
        self._step()
        while (at := self._next()) <= until:
            self.now = at
            self._step()
        self.now = until

    def _next(self) -> float:
        later = self._later[0][0] if self._later else FOR_EVER
        end = self._ends[0][0] if self._ends else FOR_EVER
        return min(later, end, FOR_EVER if self._timer is None else self._timer)

    def _step(self) -> None:
        if self._timer is not None and self._timer <= self.now:
            self._timer = None
            self.fairness.keep(self.now + 1e-6)
        while self._ends and self._ends[0][0] <= self.now:
            self._end(heapq.heappop(self._ends)[1])
        while self._later and self._later[0][0] <= self.now:
            heapq.heappop(self._later)[2]()
        self._plan()
        self._check()

    def _end(self, seq: int) -> None:
        job = self._running.pop(seq, None)
        if job is None:
            return
        worker_id = self.placed[seq]
        self.index.release(worker_id, job.spec.resources)
        if worker_id in self.index and self.index[worker_id].taking:
            self.backlog.wake(self.index[worker_id].offer)

    # What the assigner does

    def _plan(self) -> None:
        self._refill()
        while (of := self.backlog.head()) is not None:
            self.view.job = of.window[0]
            decision = self.scheduler.schedule(of.needs, self.view)
            if isinstance(decision, Assign):
                job = of.window[0]
                self.index.reserve(decision.worker_id, job.spec.resources, job.spec.name)
                self._start(self.backlog.take(of), decision.worker_id)
                self._refill()
            else:
                assert isinstance(decision, Wait)
                offers = self.view.matching(of.needs)
                self.backlog.park(of, decision, offers)
                self.fairness.waits(of, offers)
        at = self.fairness.next_at()
        if self._timer is None and at is not None:
            self._timer = max(at, self.now)

    def _refill(self) -> None:
        for needs in self.backlog.starving():
            jobs = [job for job in self._waiting.values() if Needs.of(job.spec) == needs]
            self.backlog.refill(needs, sorted(jobs, key=key_of)[: self.backlog.limit_of(needs)])

    def _start(self, job: Job, worker_id: WorkerId) -> None:
        offer = self.index[worker_id].offer
        del self._waiting[job.seq]
        self._note_overtaken(job, offer)
        if self.fairness:
            self.fairness.assigned(key_of(job), offer, self.now)
        self.started[job.seq] = self.now
        self.placed[job.seq] = worker_id
        self._running[job.seq] = job
        if self._length[job.seq] < FOR_EVER:
            heapq.heappush(self._ends, (self.now + self._length[job.seq], job.seq))

    def _note_overtaken(self, job: Job, offer: Offer) -> None:
        for seq in self.watched:
            other = self._waiting.get(seq)
            if (
                other is not None
                and seq not in self.overtaken
                and key_of(other) < key_of(job)
                and mismatch(Needs.of(other.spec), offer) is None
            ):
                self.overtaken[seq] = (self.now, self.ahead(seq))

    def _moved_on(self, number: int) -> None:
        for offer in self.fairness.moved_on(number):
            self.backlog.wake(offer)

    # What always holds

    def _check(self) -> None:
        """Check that each kept worker is there, takes work, and is kept for a job that waits."""
        for worker_id, seq in self.kept.items():
            assert self.index[worker_id].taking
            assert seq in self._waiting


@lru_cache(maxsize=1_024)
def _spec(*, cpus: float = 1, memory: str | int | None = None, **others: Any) -> JobSpec:
    return JobSpec("true", resources=Resources(cpus, memory), **others)


class _View(SchedulerView):
    """The view of a host, with providers that only the simulation knows."""

    def __init__(self, index: WorkerIndex, simulation: Simulation) -> None:
        super().__init__(index, {})
        self._simulation = simulation

    @override
    def able(self, needs: Needs) -> Sequence[ProviderView]:
        making = self._simulation.making
        return [provider for provider in making if mismatch(needs, provider.offer) is None]


def starts(simulation: Simulation, jobs: Sequence[int]) -> list[float | None]:
    """Return when these jobs started; None for those that did not."""
    return [simulation.started.get(seq) for seq in jobs]
