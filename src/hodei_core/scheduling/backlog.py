"""The due jobs that a dispatcher has in view: a window per class of needs, a heap of heads.

The store holds all that waits, a FIFO per class and priority. In view are the first jobs of
each class; the classes whose head cannot be placed are parked until a fact that matters to
them changes. So the next job costs the same whether ten wait or a million, and a class that
cannot be placed costs nothing to those behind it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable

from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.phases import WaitLog
from hodei_core.scheduling.decisions import Wait
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer

WINDOW = 256
"""The most jobs of one class in view, unless workers are being made for all of them."""

WIDEST = 16_384
"""The most jobs of one class in view while workers are being made for them."""

_SLACK = 64  # heads that may be out of date before they are gathered anew

Key = tuple[int, int]
"""The place of a job in the order of all: the negative of its priority, and its number."""


def key_of(job: Job) -> Key:
    """Return the place of a job."""
    return (-job.spec.priority, job.seq)


class NeedsClass:
    """The jobs in view that need the same."""

    __slots__ = (
        "complete",
        "limit",
        "listed_at",
        "log",
        "needs",
        "number",
        "parked",
        "wait",
        "wanting",
        "window",
    )

    def __init__(self, needs: Needs, number: int) -> None:
        self.needs: Needs = needs
        self.number: int = number
        self.window: deque[Job] = deque()
        self.limit: int = WINDOW
        """The most of its jobs in view."""

        self.complete: bool = True
        """Whether the store holds no eligible job of the class besides those in view."""

        self.parked: Wait | None = None
        """Why the class is not considered; None if it is."""

        self.wait: Wait | None = None
        """Why its first job waits, as it was decided last; None before that."""

        self.listed_at: tuple[Offer, ...] = ()
        """The offers at which it was parked last: room there wakes it, if it is parked."""

        self.log: WaitLog = WaitLog()
        """What its jobs wait for, and since when."""

        self.wanting: bool = False
        """Whether it is parked until a worker is made for it."""

    @property
    def key(self) -> Key:
        """The place of its first job in view, of which there is one."""
        return key_of(self.window[0])


class Backlog:
    """The due jobs in view, by class; gives out the best head of the classes not parked.

    `moved_on` is called with a class's number when its first job in view has gone.
    """

    def __init__(self, moved_on: Callable[[int], object] | None = None) -> None:
        self._moved_on = moved_on
        self._wanting: dict[int, NeedsClass] = {}
        self._classes: dict[Needs, NeedsClass] = {}
        self._numbered: dict[int, NeedsClass] = {}
        self._number = 0
        self._heads: list[tuple[int, int, int]] = []
        self._listed_at: dict[Offer, dict[int, NeedsClass]] = {}
        self._starving: dict[int, NeedsClass] = {}

    def __bool__(self) -> bool:
        """Whether any class has a job."""
        return bool(self._classes)

    def add(self, job: Job) -> NeedsClass:
        """Take note of a job that became eligible, and return its class.

        One that is in view already stays once.
        """
        of = self._class(Needs.of(job.spec))
        self._add(of, job)
        return of

    def _add(self, of: NeedsClass, job: Job) -> None:
        window = of.window
        key = key_of(job)
        if not window:
            if of.complete:
                window.append(job)
                self._push(of)
            return
        if key > key_of(window[-1]):
            if not of.complete:
                return
            window.append(job)
        else:
            self._insert(of, job, key)
        if len(window) > of.limit:
            window.pop()
            of.complete = False

    def _insert(self, of: NeedsClass, job: Job, key: Key) -> None:
        window = of.window
        behind: list[Job] = []
        while window and key_of(window[-1]) > key:
            behind.append(window.pop())
        if window and key_of(window[-1]) == key:
            window.pop()
        window.append(job)
        window.extend(reversed(behind))
        if window[0] is job:
            self._push(of)

    def head(self) -> NeedsClass | None:
        """Return the class, of those considered, whose first job comes before all others.

        None while one of them starves: what the store holds of it might come first.
        """
        if any(of.parked is None for of in self._starving.values()):
            return None
        heads = self._heads
        while heads:
            priority, seq, number = heads[0]
            of = self._numbered.get(number)
            if of is not None and of.parked is None and of.window:
                job = of.window[0]
                if job.seq == seq and job.spec.priority == -priority:
                    return of
            heapq.heappop(heads)
        return None

    def take(self, of: NeedsClass) -> Job:
        """Take the head of a class out."""
        job = of.window.popleft()
        of.wait = None
        self._after_take(of)
        return job

    def discard(self, job: Job) -> NeedsClass | None:
        """Take a job out wherever it is; return its class, None if it was not in view."""
        of = self._classes.get(Needs.of(job.spec))
        if of is None:
            return None
        for place, other in enumerate(of.window):
            if other.id == job.id:
                del of.window[place]
                if place == 0:
                    self._after_take(of)
                return of
        return None

    def _after_take(self, of: NeedsClass) -> None:
        if self._moved_on is not None:
            self._moved_on(of.number)
        if of.window:
            self._push(of)
        elif not of.complete:
            of.limit = WINDOW
            self._starving[of.number] = of
        else:
            self._forget(of)

    def widen(self, of: NeedsClass) -> bool:
        """Have more of a class brought into view; return whether there is more."""
        if of.complete or of.limit >= WIDEST:
            return False
        of.limit = min(2 * of.limit, WIDEST)
        self._starving[of.number] = of
        return True

    def limit_of(self, needs: Needs) -> int:
        """Return how many jobs of a class to ask for, to bring them into view."""
        of = self._classes.get(needs)
        return WINDOW if of is None else of.limit

    def park(
        self, of: NeedsClass, why: Wait, offers: Iterable[Offer], *, wanting: bool = False
    ) -> None:
        """Consider a class no more, until one of these offers has room or the fleet changes.

        `wanting`: a worker could be made for it.
        """
        of.parked = of.wait = why
        of.wanting = wanting
        if wanting:
            self._wanting[of.number] = of
        offers = tuple(offers)
        if of.listed_at is not offers and of.listed_at != offers:
            self._unlist(of)
            of.listed_at = offers
            for offer in offers:
                self._listed_at.setdefault(offer, {})[of.number] = of

    def wake(self, offer: Offer) -> None:
        """Consider the classes that wait for a worker with this offer: one has room again."""
        for of in self._listed_at.get(offer, {}).values():
            if of.parked is not None:
                self.unpark(of)

    def wake_all(self) -> None:
        """Consider every class: the fleet changed."""
        for of in self._classes.values():
            if of.parked is not None:
                self.unpark(of)

    def wanting(self) -> list[NeedsClass]:
        """Return the classes for which workers could be made, in the order of their heads."""
        return sorted(
            (of for of in self._wanting.values() if of.window), key=lambda wanting: wanting.key
        )

    def unpark(self, of: NeedsClass) -> None:
        """Consider a parked class again."""
        if of.wanting:
            of.wanting = False
            del self._wanting[of.number]
        of.parked = None
        self._push(of)

    def get(self, needs: Needs) -> NeedsClass | None:
        """Return a class that has a job in view, or had one lately; None if there is none."""
        return self._classes.get(needs)

    def classes(self) -> list[NeedsClass]:
        """Return every class that has jobs."""
        return list(self._classes.values())

    def wait_of(self, needs: Needs) -> Wait | None:
        """Return why the first job of a class waits, as decided last; None if it was not."""
        of = self._classes.get(needs)
        return None if of is None else of.wait

    def starving(self) -> list[Needs]:
        """Return the classes of which too little is in view while the store holds more."""
        return [of.needs for of in self._starving.values()]

    def refill(self, needs: Needs, jobs: Iterable[Job], *, leave_out: Iterable[JobId] = ()) -> None:
        """Bring the first eligible jobs of a class into view, as `limit_of` were asked for."""
        of = self._class(needs)
        self._starving.pop(of.number, None)
        jobs = list(jobs)
        of.complete = len(jobs) < of.limit
        gone = set(leave_out)
        before = of.window[0].id if of.window else None
        of.window = deque(job for job in jobs if job.id not in gone)
        if of.window and of.window[0].id == before:
            self._push(of)
        else:
            self._after_take(of)

    def _class(self, needs: Needs) -> NeedsClass:
        of = self._classes.get(needs)
        if of is None:
            self._number += 1
            of = self._classes[needs] = self._numbered[self._number] = NeedsClass(
                needs, self._number
            )
        return of

    def _forget(self, of: NeedsClass) -> None:
        if of.parked is not None:
            self.unpark(of)
        self._unlist(of)
        del self._classes[of.needs]
        del self._numbered[of.number]
        self._starving.pop(of.number, None)

    def _unlist(self, of: NeedsClass) -> None:
        for offer in of.listed_at:
            del self._listed_at[offer][of.number]
            if not self._listed_at[offer]:
                del self._listed_at[offer]
        of.listed_at = ()

    def _push(self, of: NeedsClass) -> None:
        if of.window and of.parked is None:
            head = of.window[0]
            heapq.heappush(self._heads, (-head.spec.priority, head.seq, of.number))
            if len(self._heads) > 2 * len(self._numbered) + _SLACK:
                self._gather_heads()

    def _gather_heads(self) -> None:
        self._heads = [
            (*key_of(of.window[0]), of.number)
            for of in self._numbered.values()
            if of.window and of.parked is None
        ]
        heapq.heapify(self._heads)
