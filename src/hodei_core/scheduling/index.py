"""The workers with a free slot, found by what they offer and have left, without a scan."""

from __future__ import annotations

from hodei_core.ids import WorkerId
from hodei_core.resources import Resources
from hodei_core.scheduling.backlog import Key
from hodei_core.scheduling.candidates import Candidate, Ring
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer

_CPU_DIGITS = 6  # as in Resources: sums of shares stay exact
_REMEMBERED = 1_024  # classes of needs whose offers are kept; more are worked out again
_NAMES = 16  # of jobs that each worker is remembered to have been given
_NAMESAKES = 8  # workers remembered for one name of a job
Free = tuple[float, "int | None"]


class WorkerIndex:
    """Live workers by id, and those with a free slot by offer and by what they have left.

    Workers with the same offer and as much left are interchangeable for filters, so a search
    looks at each such group once: its cost grows with the number of different groups, not
    with the number of workers.
    """

    def __init__(self) -> None:
        self._workers: dict[WorkerId, Candidate] = {}
        self._offers: dict[Offer, int] = {}
        self._groups: dict[Offer, dict[Free, Ring]] = {}
        self._matching: dict[Needs, tuple[Offer, ...]] = {}
        self._kept: dict[WorkerId, Key] = {}
        self._namesakes: dict[str, dict[WorkerId, None]] = {}
        self._uses = 0

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker_id: WorkerId) -> bool:
        return worker_id in self._workers

    def __getitem__(self, worker_id: WorkerId) -> Candidate:
        return self._workers[worker_id]

    def get(self, worker_id: WorkerId) -> Candidate | None:
        """Return a live worker; None if it is none."""
        return self._workers.get(worker_id)

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
        self._kept.pop(worker_id, None)
        self._offers[worker.offer] -= 1
        if not self._offers[worker.offer]:
            del self._offers[worker.offer]
            self._matching.clear()

    def stop(self, worker_id: WorkerId) -> None:
        """Hand the worker out no more; what it runs goes on."""
        worker = self._workers[worker_id]
        self._unlist(worker)
        self._kept.pop(worker_id, None)
        worker.taking = False

    def keep(self, worker_id: WorkerId, key: Key) -> None:
        """Hand the worker out for no job behind this place, until `let_go`."""
        self._unlist(self._workers[worker_id])
        self._kept[worker_id] = key

    def let_go(self, worker_id: WorkerId) -> None:
        """Hand a kept worker out as any other; one that is not kept is no error."""
        if self._kept.pop(worker_id, None) is not None:
            self._list(self._workers[worker_id])

    @property
    def has_room(self) -> bool:
        """Whether any worker may have a slot free: one that is kept counts as if it had."""
        return bool(self._groups or self._kept)

    @property
    def keeps(self) -> bool:
        """Whether any worker is kept."""
        return bool(self._kept)

    def kept(self, worker_id: WorkerId) -> Key | None:
        """Return the place that a worker is kept for; None if it is not kept."""
        return self._kept.get(worker_id)

    def reserve(self, worker_id: WorkerId, resources: Resources, name: str | None = None) -> None:
        """Take a slot and resources of a worker, for a job with this name.

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
        self._uses += 1
        worker.last_used = self._uses
        if name is not None:
            self._remember(worker, name)

    def _remember(self, worker: Candidate, name: str) -> None:
        if worker.names[-1:] != (name,):
            others = tuple(other for other in worker.names if other != name)
            worker.names = (*others[1 - _NAMES :], name)
        namesakes = self._namesakes.pop(name, {})
        namesakes.pop(worker.id, None)
        namesakes[worker.id] = None
        while len(namesakes) > _NAMESAKES:
            del namesakes[next(iter(namesakes))]
        self._namesakes[name] = namesakes
        if len(self._namesakes) > _REMEMBERED:
            del self._namesakes[next(iter(self._namesakes))]

    def namesakes(self, name: str, needs: Needs) -> list[Candidate]:
        """Return workers on which such a job fits and that ran its name, the last one first."""
        found: list[Candidate] = []
        for worker_id in reversed(self._namesakes.get(name, _NO_WORKERS)):
            worker = self._workers.get(worker_id)
            if (
                worker is not None
                and worker_id not in self._kept
                and worker.fits(needs.resources)
                and mismatch(needs, worker.offer) is None
            ):
                found.append(worker)
        return found

    def keepers(self, needs: Needs, key: Key) -> list[Candidate]:
        """Return the kept workers on which such a job fits, if its place comes in time."""
        return [
            worker
            for worker_id, until in self._kept.items()
            if key <= until
            and (worker := self._workers[worker_id]).fits(needs.resources)
            and mismatch(needs, worker.offer) is None
        ]

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

    def _handed_out(self, worker: Candidate) -> bool:
        return (
            worker.taking
            and worker.slots_used < worker.offer.slots
            and not (self._kept and worker.id in self._kept)
        )

    def _list(self, worker: Candidate) -> None:
        if self._handed_out(worker):
            groups = self._groups.setdefault(worker.offer, {})
            left = (worker.cpus_free, worker.memory_free)
            ring = groups.get(left)
            if ring is None:
                ring = groups[left] = Ring()
            ring.add(worker)

    def _unlist(self, worker: Candidate) -> None:
        if self._handed_out(worker):
            groups = self._groups[worker.offer]
            left = (worker.cpus_free, worker.memory_free)
            ring = groups[left]
            ring.remove(worker)
            if not len(ring):
                del groups[left]
                if not groups:
                    del self._groups[worker.offer]


_NO_GROUPS: dict[Free, Ring] = {}
_NO_WORKERS: dict[WorkerId, None] = {}
