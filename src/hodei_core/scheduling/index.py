"""The workers with a free slot, found by what they offer and have left, without a scan."""

from __future__ import annotations

from hodei_core.ids import WorkerId
from hodei_core.resources import Resources
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer

_CPU_DIGITS = 6  # as in Resources: sums of shares stay exact
_REMEMBERED = 1_024  # classes of needs whose offers are kept; more are worked out again
Free = tuple[float, "int | None"]


class Candidate:
    """A worker as strategies see it: read it, never change it."""

    __slots__ = ("cpus_free", "id", "memory_free", "offer", "slots_used", "taking")

    def __init__(self, id: WorkerId, offer: Offer) -> None:  # noqa: A002 - the field's name
        self.id: WorkerId = id
        self.offer: Offer = offer
        self.slots_used: int = 0
        self.cpus_free: float = offer.resources.cpus
        self.memory_free: int | None = offer.resources.memory
        """Bytes that no job has reserved; None: no limit."""

        self.taking: bool = True
        """Whether it takes work; a draining worker does not."""

    @property
    def slots_free(self) -> int:
        """How many more jobs it could run at once."""
        return self.offer.slots - self.slots_used

    @property
    def load(self) -> float:
        """The share of its slots that is in use, 0 to 1."""
        return self.slots_used / self.offer.slots

    def fits(self, resources: Resources) -> bool:
        """Return whether it has a free slot and that much left."""
        return (
            self.taking
            and self.slots_used < self.offer.slots
            and resources.cpus <= self.cpus_free
            and (
                resources.memory is None
                or self.memory_free is None
                or resources.memory <= self.memory_free
            )
        )


class _Ring:
    """A set whose members are handed out in rotation; all operations are O(1) a member."""

    __slots__ = ("_items", "_next", "_places")

    def __init__(self) -> None:
        self._items: list[Candidate] = []
        self._places: dict[WorkerId, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Candidate) -> None:
        self._places[item.id] = len(self._items)
        self._items.append(item)

    def remove(self, item: Candidate) -> None:
        place = self._places.pop(item.id)
        last = self._items.pop()
        if last is not item:
            self._items[place] = last
            self._places[last.id] = place

    def take(self, most: int) -> list[Candidate]:
        items = self._items
        if len(items) <= most:
            return items[:]
        start = self._next % len(items)
        self._next = start + most
        taken = items[start : start + most]
        return taken + items[: most - len(taken)]


class WorkerIndex:
    """Live workers by id, and those with a free slot by offer and by what they have left.

    Workers with the same offer and as much left are interchangeable for filters, so a search
    looks at each such group once: its cost grows with the number of different groups, not
    with the number of workers.
    """

    def __init__(self) -> None:
        self._workers: dict[WorkerId, Candidate] = {}
        self._offers: dict[Offer, int] = {}
        self._groups: dict[Offer, dict[Free, _Ring]] = {}
        self._matching: dict[Needs, tuple[Offer, ...]] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker_id: WorkerId) -> bool:
        return worker_id in self._workers

    def __getitem__(self, worker_id: WorkerId) -> Candidate:
        return self._workers[worker_id]

    def workers(self) -> list[Candidate]:
        """Return every live worker, oldest first."""
        return list(self._workers.values())

    def add(self, worker_id: WorkerId, offer: Offer) -> Candidate:
        """Take in a worker with all its slots free."""
        worker = self._workers[worker_id] = Candidate(worker_id, offer)
        if offer not in self._offers:
            self._offers[offer] = 0
            self._matching.clear()
        self._offers[offer] += 1
        self._list(worker)
        return worker

    def remove(self, worker_id: WorkerId) -> None:
        """Forget a worker; what it had reserved goes with it. Unknown ones are no error."""
        worker = self._workers.pop(worker_id, None)
        if worker is None:
            return
        self._unlist(worker)
        self._offers[worker.offer] -= 1
        if not self._offers[worker.offer]:
            del self._offers[worker.offer]
            self._matching.clear()

    def stop(self, worker_id: WorkerId) -> None:
        """Hand the worker out no more; what it runs goes on."""
        worker = self._workers[worker_id]
        self._unlist(worker)
        worker.taking = False

    def reserve(self, worker_id: WorkerId, resources: Resources) -> None:
        """Take a slot and resources of a worker.

        Raises:
            ValueError: it has no slot free, or less left.
        """
        worker = self._workers[worker_id]
        if not worker.fits(resources):
            msg = f"{worker_id} has no room for {resources}"
            raise ValueError(msg)
        self._unlist(worker)
        worker.slots_used += 1
        worker.cpus_free = round(worker.cpus_free - resources.cpus, _CPU_DIGITS)
        if worker.memory_free is not None and resources.memory is not None:
            worker.memory_free -= resources.memory
        self._list(worker)

    def release(self, worker_id: WorkerId, resources: Resources) -> None:
        """Give a slot and resources back; of a worker that is gone this is no error."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        self._unlist(worker)
        worker.slots_used -= 1
        worker.cpus_free = round(worker.cpus_free + resources.cpus, _CPU_DIGITS)
        if worker.memory_free is not None and resources.memory is not None:
            worker.memory_free += resources.memory
        self._list(worker)

    def matching(self, needs: Needs) -> tuple[Offer, ...]:
        """Return the offers of live workers on which such a job could run, were they free."""
        offers = self._matching.get(needs)
        if offers is None:
            offers = tuple(offer for offer in self._offers if mismatch(needs, offer) is None)
            if len(self._matching) >= _REMEMBERED:
                self._matching.clear()
            self._matching[needs] = offers
        return offers

    def candidates(self, needs: Needs, most: int) -> list[Candidate]:
        """Return workers on which such a job fits now, at most `most`, in rotation."""
        cpus, memory = needs.resources.cpus, needs.resources.memory
        found: list[Candidate] = []
        for offer in self.matching(needs):
            seen: list[Free] = []
            for left, ring in self._groups.get(offer, _NO_GROUPS).items():
                cpus_free, memory_free = left
                if cpus <= cpus_free and (
                    memory is None or memory_free is None or memory <= memory_free
                ):
                    found += ring.take(most - len(found))
                    seen.append(left)
                    if len(found) >= most:
                        self._put_behind(needs, offer, seen)
                        return found
        return found

    def _put_behind(self, needs: Needs, offer: Offer, seen: list[Free]) -> None:
        """Look last, next time, where enough was found now: else the rest would never be seen."""
        groups = self._groups[offer]
        for left in seen:
            groups[left] = groups.pop(left)
        offers = self._matching[needs]
        if len(offers) > 1:
            place = offers.index(offer) + 1
            self._matching[needs] = offers[place:] + offers[:place]

    def _list(self, worker: Candidate) -> None:
        if worker.taking and worker.slots_used < worker.offer.slots:
            groups = self._groups.setdefault(worker.offer, {})
            left = (worker.cpus_free, worker.memory_free)
            ring = groups.get(left)
            if ring is None:
                ring = groups[left] = _Ring()
            ring.add(worker)

    def _unlist(self, worker: Candidate) -> None:
        if worker.taking and worker.slots_used < worker.offer.slots:
            groups = self._groups[worker.offer]
            left = (worker.cpus_free, worker.memory_free)
            ring = groups[left]
            ring.remove(worker)
            if not len(ring):
                del groups[left]
                if not groups:
                    del self._groups[worker.offer]


_NO_GROUPS: dict[Free, _Ring] = {}
