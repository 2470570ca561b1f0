"""Keeps workers for jobs that others overtake, so that nothing that can be placed waits for ever.

A job that is too large for what is free is overtaken by smaller ones behind it. After a while
the best-fitting worker is filled no further by those, until the job has it. If that does not help
within as long again, for instance since what runs there never ends, and the job is overtaken
elsewhere, a second one is kept; a third one after twice as long, and so on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from hodei_core.ids import WorkerId
from hodei_core.resources import Resources
from hodei_core.scheduling.backlog import Key, NeedsClass
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.index import WorkerIndex
from hodei_core.scheduling.needs import Needs
from hodei_core.states import WaitingFor
from hodei_core.workers import Offer

PATIENCE_SECONDS = 30.0
"""How long the first job of a class may be overtaken before a worker is kept for it."""

_SLACK = 64  # notes of jobs that wait no more, before those of an offer are gathered anew


class _Watch:
    """A class of needs whose first job waits for room."""

    __slots__ = (
        "given",
        "kept",
        "kept_at",
        "key",
        "needs",
        "next_at",
        "noted",
        "number",
        "offers",
        "overtaken",
    )

    def __init__(self, number: int, needs: Needs, key: Key) -> None:
        self.number = number
        self.needs = needs
        self.key = key
        self.given: Iterable[Offer] = ()
        self.offers: tuple[Offer, ...] = ()
        self.noted: set[Offer] = set()
        self.overtaken = False
        self.next_at = 0.0
        self.kept: dict[WorkerId, Key] = {}
        self.kept_at: float | None = None
        """When a worker was kept for it last; None if none was."""


class Fairness:
    """Sees who is overtaken, and keeps workers for them. Instants are monotonic seconds."""

    def __init__(self, index: WorkerIndex) -> None:
        self._index = index
        self._watches: dict[int, _Watch] = {}
        self._passable: dict[Offer, list[tuple[Key, int]]] = {}
        self._due: list[tuple[float, int]] = []

    def __bool__(self) -> bool:
        """Whether anybody can be overtaken."""
        return bool(self._passable)

    def waits(self, of: NeedsClass, offers: Iterable[Offer]) -> None:
        """Take note that the first job of a class waits for room on workers with these offers."""
        watch = self._watches.get(of.number)
        if watch is None:
            watch = self._watches[of.number] = _Watch(of.number, of.needs, of.key)
        elif watch.key != of.key:
            watch.key = of.key
            watch.noted.clear()
        elif watch.given is offers and of.needs.prefers is None:
            return
        watch.given = offers
        watch.offers = _wanted(of, offers)
        for offer in watch.offers:
            if offer not in watch.noted:
                self._note(watch, offer)

    def _note(self, watch: _Watch, offer: Offer) -> None:
        watch.noted.add(offer)
        waiting = self._passable.setdefault(offer, [])
        heapq.heappush(waiting, (watch.key, watch.number))
        if len(waiting) > 2 * len(self._watches) + _SLACK:
            self._passable[offer] = sorted(
                (other.key, other.number)
                for other in self._watches.values()
                if offer in other.noted and not other.overtaken
            )

    def assigned(self, key: Key, offer: Offer, now: float) -> None:
        """Take note that a job with this place got room on a worker with this offer."""
        waiting = self._passable.get(offer)
        while waiting and waiting[0][0] < key:
            overtaken, number = heapq.heappop(waiting)
            watch = self._watches.get(number)
            if watch is not None and watch.key == overtaken and not watch.overtaken:
                watch.overtaken = True
                self._arm(watch, self._patient_until(watch, now))
        if waiting is not None and not waiting:
            del self._passable[offer]

    def moved_on(self, number: int) -> list[Offer]:
        """Take note that the first job of a class waits no more; return where room appeared."""
        watch = self._watches.pop(number, None)
        return [] if watch is None else self._let_go(self._still_kept(watch))

    def left(self, number: int, key: Key) -> list[Offer]:
        """Take note that a job of a class waits no more; return where room appeared.

        It was the first of its class once, if a worker is kept for it.
        """
        watch = self._watches.get(number)
        if watch is None:
            return []
        kept = [worker_id for worker_id, of in self._still_kept(watch).items() if of == key]
        for worker_id in kept:
            del watch.kept[worker_id]
        return self._let_go(kept)

    def _let_go(self, kept: Iterable[WorkerId]) -> list[Offer]:
        kept = list(kept)
        for worker_id in kept:
            self._index.let_go(worker_id)
        return [self._index[worker_id].offer for worker_id in kept]

    def kept(self, number: int) -> list[WorkerId]:
        """Return the workers that are kept for a class."""
        watch = self._watches.get(number)
        return [] if watch is None else list(self._still_kept(watch))

    def next_at(self) -> float | None:
        """Return when to call `keep`; None: not before somebody else is overtaken."""
        while self._due:
            at, number = self._due[0]
            watch = self._watches.get(number)
            if watch is not None and watch.overtaken and watch.next_at == at:
                return at
            heapq.heappop(self._due)
        return None

    def keep(self, now: float) -> None:
        """Keep a worker, or another, for each class that has been overtaken for too long."""
        while True:
            at = self.next_at()
            if at is None or at > now:
                return
            watch = self._watches[heapq.heappop(self._due)[1]]
            watch.kept = self._still_kept(watch)
            best = self._best(watch)
            if best is None:
                self._arm(watch, now + PATIENCE_SECONDS)
                continue
            self._index.keep(best.id, watch.key)
            watch.kept[best.id] = watch.key
            watch.kept_at = now
            watch.overtaken = False  # until somebody passes it again, elsewhere
            watch.noted.clear()
            for offer in watch.offers:
                self._note(watch, offer)

    def _patient_until(self, watch: _Watch, now: float) -> float:
        """Return when to keep a worker for a class that is overtaken now."""
        if watch.kept_at is None:
            return now + PATIENCE_SECONDS
        more = max(len(self._still_kept(watch)) - 1, 0)
        return max(now, watch.kept_at + math.ldexp(PATIENCE_SECONDS, more))

    def _arm(self, watch: _Watch, at: float) -> None:
        watch.next_at = at
        heapq.heappush(self._due, (at, watch.number))

    def _still_kept(self, watch: _Watch) -> dict[WorkerId, Key]:
        """Return the workers kept for a class, without those that are gone or drain."""
        return {one: key for one, key in watch.kept.items() if self._index.kept(one) == key}

    def _best(self, watch: _Watch) -> Candidate | None:
        """Return the worker that lacks the least; the smallest of those, so that least is held.

        One that is kept for a job behind counts as any other: else it could be kept for that
        for ever, while those between fill it.
        """
        offers = set(watch.offers)
        able = [
            worker
            for worker in self._index.workers()
            if worker.taking
            and worker.offer in offers
            and ((until := self._index.kept(worker.id)) is None or until > watch.key)
        ]
        if not able:
            return None
        return min(able, key=lambda worker: _lack(worker, watch.needs.resources))


def _wanted(of: NeedsClass, offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """Return on which offers a class waits for room: of the provider it prefers, if for that."""
    prefers, why = of.needs.prefers, of.parked
    if prefers is None or why is None or why.waiting_for is not WaitingFor.PROVISIONING:
        return tuple(offers)
    return tuple(offer for offer in offers if offer.provider == prefers)


def _lack(worker: Candidate, wanted: Resources) -> tuple[float, float]:
    lack = 0.0 if worker.slots_free else 1 / worker.offer.slots
    if wanted.cpus > worker.cpus_free:
        lack += (wanted.cpus - worker.cpus_free) / wanted.cpus
    if wanted.memory and worker.memory_free is not None and wanted.memory > worker.memory_free:
        lack += (wanted.memory - worker.memory_free) / wanted.memory
    return (lack, worker.offer.resources.cpus)
