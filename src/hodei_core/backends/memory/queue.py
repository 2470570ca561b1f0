"""What waits in a memory store: a FIFO per class of needs and priority."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain, islice
from typing import TypeVar

import anyio

from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.ports import JobQueue, Needs
from hodei_core.states import JobState, WaitingFor

T = TypeVar("T")
Alive = Callable[[Job], bool]

_FOR_LATER = (WaitingFor.DELAY, WaitingFor.BACKOFF)
_SLACK = 64  # entries that may be dead before a structure is rebuilt
_SCAN = 2_000  # entries looked at before other tasks get their turn


class _Fifo:
    """Jobs of one class and priority by `seq`: fresh ones in a deque, returned ones in a heap.

    What leaves the queue is marked dead by its owner and dropped when met, or when half of all
    is dead: putting in and taking out cost the same at any length.
    """

    __slots__ = ("fresh", "late", "live")

    def __init__(self) -> None:
        self.fresh: deque[Job] = deque()
        self.late: list[tuple[int, int, Job]] = []  # by seq; the version sets two of one job apart
        self.live = 0

    def put(self, job: Job) -> None:
        self.live += 1
        if not self.fresh or self.fresh[-1].seq < job.seq:
            self.fresh.append(job)
        else:
            heapq.heappush(self.late, (job.seq, job.version, job))

    def discard(self, alive: Alive) -> None:
        self.live -= 1
        fresh, late = self.fresh, self.late
        while fresh and not alive(fresh[0]):
            fresh.popleft()
        while late and not alive(late[0][2]):
            heapq.heappop(late)
        if len(fresh) + len(late) > 2 * self.live + _SLACK:
            self.fresh = deque(filter(alive, fresh))
            self.late = [entry for entry in late if alive(entry[2])]
            heapq.heapify(self.late)

    def jobs(self, alive: Alive) -> Iterator[Job]:
        """Return the live jobs in order."""
        if not self.late:
            return filter(alive, self.fresh)
        return filter(
            alive,
            heapq.merge(self.fresh, (job for _, _, job in _in_order(self.late)), key=_seq),
        )

    def ahead_of(self, job: Job) -> list[Job]:
        """Return what is ahead of a job, the dead included, in no order."""
        fresh = list(self.fresh)
        del fresh[bisect_left(fresh, job.seq, key=_seq) :]
        return fresh + [other for seq, _, other in self.late if seq < job.seq]


def _seq(job: Job) -> int:
    return job.seq


def _due(job: Job) -> tuple[datetime, int]:
    return (job.due_at, job.seq)


def queue_order(job: Job) -> tuple[int, int]:
    """Return what eligible jobs are ordered by."""
    return (-job.spec.priority, job.seq)


def _in_order(heap: list[T]) -> Iterator[T]:
    """Return the items of a heap in order, lazily and leaving it alone."""
    front: list[tuple[T, int]] = [(heap[0], 0)] if heap else []
    while front:
        item, i = heapq.heappop(front)
        yield item
        for child in (2 * i + 1, 2 * i + 2):
            if child < len(heap):
                heapq.heappush(front, (heap[child], child))


class _Class:
    """The eligible jobs of one class of needs, by priority."""

    __slots__ = ("_levels", "_order", "live")

    def __init__(self) -> None:
        self._levels: dict[int, _Fifo] = {}
        self._order: list[int] = []  # negated priorities, sorted: highest priority first
        self.live = 0

    def put(self, job: Job) -> None:
        priority = job.spec.priority
        fifo = self._levels.get(priority)
        if fifo is None:
            fifo = self._levels[priority] = _Fifo()
            insort(self._order, -priority)
        fifo.put(job)
        self.live += 1

    def discard(self, job: Job, alive: Alive) -> None:
        priority = job.spec.priority
        fifo = self._levels[priority]
        fifo.discard(alive)
        self.live -= 1
        if not fifo.live:
            del self._levels[priority]
            self._order.remove(-priority)

    def ahead_of(self, job: Job) -> tuple[int, list[Job]]:
        """Return how many jobs have a higher priority, and what is ahead within its own."""
        priority = job.spec.priority
        higher = sum(fifo.live for level, fifo in self._levels.items() if level > priority)
        return higher, self._levels[priority].ahead_of(job)

    def jobs(self, alive: Alive) -> Iterator[Job]:
        """Return the live jobs in order."""
        return chain.from_iterable(self._levels[-level].jobs(alive) for level in self._order)


class MemoryJobQueue(JobQueue):
    """The queue of a memory store; `jobs` is the store's own table."""

    def __init__(self, jobs: dict[JobId, Job]) -> None:
        self._jobs = jobs
        self._classes: dict[Needs, _Class] = {}
        self._later: list[tuple[datetime, int, int, Job]] = []
        self._later_live = 0
        self._by_due: list[Job] = []
        self._by_due_start = 0  # what is before this one has left
        self._eligible = 0

    def _alive(self, job: Job) -> bool:
        return self._jobs.get(job.id) is job

    # Called by the store, after the table has the new value.

    def put(self, job: Job) -> None:
        """Take in a job that is PENDING now: eligible, or for later."""
        if job.waiting_for in _FOR_LATER:
            self._later_live += 1
            heapq.heappush(self._later, (job.due_at, job.seq, job.version, job))
            return
        needs = Needs.of(job.spec)
        queue = self._classes.get(needs)
        if queue is None:
            queue = self._classes[needs] = _Class()
        queue.put(job)
        self._eligible += 1
        self._put_by_due(job)

    def discard(self, job: Job) -> None:
        """Let go of a job that was PENDING."""
        if job.waiting_for in _FOR_LATER:
            self._later_live -= 1
            if len(self._later) > 2 * self._later_live + _SLACK:
                self._later = [entry for entry in self._later if self._alive(entry[3])]
                heapq.heapify(self._later)
            return
        needs = Needs.of(job.spec)
        queue = self._classes[needs]
        queue.discard(job, self._alive)
        if not queue.live:
            del self._classes[needs]
        self._eligible -= 1
        self._sweep_by_due()

    def pop_due(self, now: datetime) -> list[Job]:
        """Take out the delayed and backing-off jobs whose time has come."""
        came: list[Job] = []
        while self._later and (self._later[0][0] <= now or not self._alive(self._later[0][3])):
            job = heapq.heappop(self._later)[3]
            if self._alive(job):
                self._later_live -= 1
                came.append(job)
        return came

    def _put_by_due(self, job: Job) -> None:
        by_due = self._by_due
        if self._by_due_start == len(by_due) or _due(by_due[-1]) <= _due(job):
            by_due.append(job)
        else:
            insort(by_due, job, lo=self._by_due_start, key=_due)

    def _sweep_by_due(self) -> None:
        by_due, start = self._by_due, self._by_due_start
        while start < len(by_due) and not self._alive(by_due[start]):
            start += 1
        self._by_due_start = start
        if len(by_due) > 2 * self._eligible + _SLACK:
            self._by_due = list(filter(self._alive, by_due[start:]))
            self._by_due_start = 0

    # JobQueue

    async def needs(self) -> list[Needs]:
        return list(self._classes)

    async def peek(self, needs: Needs, limit: int) -> list[Job]:
        queue = self._classes.get(needs)
        return [] if queue is None else list(islice(queue.jobs(self._alive), limit))

    async def position(self, job_id: JobId) -> int | None:
        job = self._jobs.get(job_id)
        if job is None or job.state is not JobState.PENDING or job.waiting_for in _FOR_LATER:
            return None
        place, others = self._classes[Needs.of(job.spec)].ahead_of(job)
        for start in range(0, len(others), _SCAN):
            if start:
                await anyio.sleep(0)
            place += sum(map(self._alive, others[start : start + _SCAN]))
        return place

    async def next_due(self) -> datetime | None:
        while self._later and not self._alive(self._later[0][3]):
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    async def overdue(
        self, before: datetime, after: tuple[datetime, int] | None, limit: int
    ) -> list[Job]:
        by_due = self._by_due
        start = self._by_due_start
        if after is not None:
            start = bisect_right(by_due, after, lo=start, key=_due)
        found: list[Job] = []
        for place in range(start, len(by_due)):
            job = by_due[place]
            if job.due_at > before or len(found) == limit:
                break
            if self._alive(job):
                found.append(job)
        return found
