"""What a decision costs, with few workers and jobs and with many."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import islice

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import Measure, take_turns
from hodei_core import (
    Assign,
    Candidate,
    Job,
    JobId,
    JobSpec,
    Needs,
    Offer,
    ProviderView,
    Resources,
    SmartScheduler,
    Wait,
    WorkerId,
)
from hodei_core.scheduling.backlog import WINDOW, Backlog
from hodei_core.scheduling.index import WorkerIndex

_AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
_SLOTS = 8
_BLOCKED = 9  # classes of jobs that nothing can run now; the tenth class can be placed
_SMALL = (10, 1_000)
_LARGE = (10_000, 1_000_000)
_ONE = Resources()
_PLACEABLE = JobSpec("true")
_LABELS = {"kind": "rare"}


class World:
    """The pure core, put to use as the dispatcher does, over so many workers and jobs.

    Nine jobs of ten come first and cannot be placed: half their classes need a label whose only
    worker is full, the others more CPUs than any worker has left. The last tenth can be placed
    wherever a slot is free.
    """

    def __init__(self, workers: int, pending: int, *, free: int, providers: int = 1) -> None:
        self._index = WorkerIndex()
        self._backlog = Backlog()
        self._scheduler = SmartScheduler()
        self._stored: dict[Needs, deque[Job]] = {}
        self._seq = 0
        plain = [
            Offer(provider=f"p{number}", slots=_SLOTS, resources=Resources(cpus=_SLOTS))
            for number in range(providers)
        ]
        rare = Offer(provider="p0", resources=Resources(cpus=_SLOTS), labels=_LABELS)
        self._providers = tuple(
            ProviderView(name=offer.provider, offer=offer, room=0, arriving=0) for offer in plain
        )
        self._add(WorkerId("rare"), rare, used=1)
        self._workers = deque(WorkerId(f"w{number}") for number in range(workers))
        for number, worker in enumerate(self._workers):
            self._add(worker, plain[number % providers], used=_SLOTS - free)
        self._placed: list[WorkerId] = []
        self.job: Job
        self._fill(pending)

    def _add(self, worker: WorkerId, offer: Offer, *, used: int) -> None:
        self._index.add(worker, offer)
        for _ in range(used):
            self._index.reserve(worker, _ONE)

    def _fill(self, pending: int) -> None:
        blocked = [
            JobSpec("true", requires=_LABELS, resources=Resources(cpus=1 + number / 10))
            if number % 2
            else JobSpec("true", resources=Resources(cpus=_SLOTS - number / 10))
            for number in range(_BLOCKED)
        ]
        for number in range(pending * 9 // 10):
            self._submit(self._job(blocked[number % _BLOCKED]))
        for _ in range(pending // 10):
            self._submit(self._job(_PLACEABLE))

    def _job(self, spec: JobSpec) -> Job:
        self._seq += 1
        return Job.accepted(id=JobId(f"job-{self._seq}"), spec=spec, seq=self._seq, at=_AT)

    def _submit(self, job: Job) -> None:
        self._stored.setdefault(Needs.of(job.spec), deque()).append(job)
        self._backlog.add(job)

    # What the scheduler sees

    def candidates(self, needs: Needs, most: int) -> Sequence[Candidate]:
        return self._index.candidates(needs, most)

    def matching(self, needs: Needs) -> Sequence[Offer]:
        return self._index.matching(needs)

    def able(self, needs: Needs) -> Sequence[ProviderView]:
        del needs
        return self._providers

    def providers(self) -> Sequence[ProviderView]:
        return self._providers

    # What is measured: CPU seconds of a job that is placed

    async def as_slots_free(self, jobs: int) -> float:
        """Place jobs one by one on full workers, as what ran there ends and others come in."""
        new = [self._job(_PLACEABLE) for _ in range(jobs)]
        began = time.process_time()
        for job in new:
            worker = self._workers[0]
            self._workers.rotate(-1)
            self._index.release(worker, _ONE)
            self._backlog.wake(self._index[worker].offer)
            self._submit(job)
            self._decide()
        taken = time.process_time() - began
        assert len(self._placed) == jobs
        self._placed.clear()
        return taken / jobs

    async def in_a_burst(self, jobs: int) -> float:
        """Place waiting jobs on workers with free slots, then end them and put others in."""
        began = time.process_time()
        self._decide(jobs)
        taken = time.process_time() - began
        assert len(self._placed) == jobs
        for worker in self._placed:
            self._index.release(worker, _ONE)
            self._submit(self._job(_PLACEABLE))
        self._placed.clear()
        return taken / jobs

    def _decide(self, most: int = 1 << 62) -> None:
        backlog = self._backlog
        while len(self._placed) < most:
            for needs in backlog.starving():
                backlog.refill(needs, list(islice(self._stored[needs], WINDOW)))
            of = backlog.head()
            if of is None:
                return
            self.job = of.window[0]
            decision = self._scheduler.schedule(of.needs, self)
            if isinstance(decision, Assign):
                self._index.reserve(decision.worker_id, of.needs.resources)
                self._stored[of.needs].popleft()
                backlog.take(of)
                self._placed.append(decision.worker_id)
            else:
                assert isinstance(decision, Wait)
                backlog.park(of, decision, self._index.matching(of.needs))


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Figure]:
    large = (100, 10_000) if quick else _LARGE
    rounds = 2 if quick else 15

    def freed(world: World) -> Measure:
        return lambda: world.as_slots_free(20 if quick else 2_000)

    def burst(world: World) -> Measure:
        return lambda: world.in_a_burst(40)

    full = (World(*_SMALL, free=0), World(*large, free=0))
    freed_rounds = await take_turns(rounds, *map(freed, full))
    del full
    idle = (World(*_SMALL, free=4), World(*large, free=4))
    burst_rounds = await take_turns(rounds * 20, *map(burst, idle))
    what = f"CPU time of a job placed, {large[0]:,} workers and {large[1]:,} pending"
    return [
        Figure(
            name=name,
            what=f"{what}, {how}",
            unit="us",
            floor_is=f"{_SMALL[0]} workers and {_SMALL[1]:,} pending",
            floor=results.median(0) * 1e6,
            ours=results.median(1) * 1e6,
            judged=Judged.RATIO,
            value=results.ratio(1, 0),
            first=2.0,
            end=1.5,
            note=f"{_BLOCKED} jobs of 10 in front cannot be placed",
        )
        for name, how, results in (
            ("decision.freed", "as a slot of a full fleet is freed", freed_rounds),
            ("decision.burst", "on a fleet that is half free", burst_rounds),
        )
    ]


ROW = Row("decision", "decision cost, 10 / 10,000 workers, 1,000 / 1,000,000 pending", measure)
