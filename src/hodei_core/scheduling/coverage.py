"""Which jobs a worker on its way will have room for, so that none is made twice for one job."""

from __future__ import annotations

from hodei_core.resources import Resources
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer

_MANY = 1 << 62


class _Bin:
    """Arriving workers that are alike: how many, and what each has left."""

    __slots__ = ("count", "cpus", "memory", "offer", "slots")

    def __init__(
        self, offer: Offer, count: int, slots: int, cpus: float, memory: int | None
    ) -> None:
        self.offer = offer
        self.count = count
        self.slots = slots
        self.cpus = cpus
        self.memory = memory

    def holds(self, wanted: Resources) -> int:
        """Return how many jobs that ask for so much fit into one of these workers."""
        by_cpus = _MANY if not wanted.cpus else int((self.cpus + 1e-9) / wanted.cpus)
        by_memory = _MANY
        if wanted.memory and self.memory is not None:
            by_memory = self.memory // wanted.memory
        return min(self.slots, by_cpus, by_memory)

    def less(self, wanted: Resources, jobs: int) -> _Bin:
        """Return one such worker with that many jobs in it."""
        memory = self.memory
        if memory is not None and wanted.memory is not None:
            memory -= jobs * wanted.memory
        return _Bin(self.offer, 1, self.slots - jobs, self.cpus - jobs * wanted.cpus, memory)


class Coverage:
    """Fills the workers on their way with the jobs that wait, first come, first served.

    Alike workers are filled together, so its cost grows with the number of different ones and
    of classes of needs, not with the number of jobs.
    """

    def __init__(self) -> None:
        self._bins: list[_Bin] = []

    def add(self, offer: Offer, count: int) -> None:
        """Count on workers with this offer that are on their way."""
        if count > 0:
            resources = offer.resources
            self._bins.append(_Bin(offer, count, offer.slots, resources.cpus, resources.memory))

    @staticmethod
    def fits(needs: Needs, offer: Offer) -> bool:
        """Return whether such a worker has room for such a job at all."""
        return mismatch(needs, offer) is None

    def take(self, needs: Needs, jobs: int) -> int:
        """Place jobs with these needs; return how many find no room."""
        left = jobs
        bins: list[_Bin] = []
        for some in self._bins:
            if left and mismatch(needs, some.offer) is None:
                left -= self._fill(some, needs.resources, left, bins)
            if some.count:
                bins.append(some)
        self._bins = [some for some in bins if some.slots]
        return left

    def _fill(self, some: _Bin, wanted: Resources, jobs: int, filled: list[_Bin]) -> int:
        """Place at most so many jobs into alike workers; return how many were placed."""
        each = some.holds(wanted)
        if not each:
            return 0
        placed = min(jobs, each * some.count)
        full, rest = divmod(placed, each)
        if full:
            one = some.less(wanted, each)
            one.count = full
            filled.append(one)
        if rest:
            filled.append(some.less(wanted, rest))
        some.count -= full + bool(rest)
        return placed
