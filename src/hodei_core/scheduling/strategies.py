"""Ways to choose: among the workers that fit a job, and among the providers to make one.

A strategy is one function of the job and what there is to choose from, of which there is at
least one; it returns one of them. A `SmartScheduler` takes it as it is, or one of these by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

from hodei_core.jobs import Job
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.provider_view import ProviderView

WorkerStrategy: TypeAlias = Callable[[Job, Sequence[Candidate]], Candidate]
"""Chooses one of the workers that have room for a job."""

ProviderStrategy: TypeAlias = Callable[[Job, Sequence[ProviderView]], ProviderView]
"""Chooses one of the providers that can make a worker for a job now."""


class _Used(Protocol):
    @property
    def last_used(self) -> int:
        """Grows with each use, of whichever; 0 if it was never used."""


T = TypeVar("T")
U = TypeVar("U", bound=_Used)


def first_available(job: Job, choice: Sequence[T]) -> T:
    """Choose the first: of workers the next in rotation, of providers in the order given."""
    del job
    return choice[0]


def round_robin(job: Job, choice: Sequence[U]) -> U:
    """Choose the one whose last use is the longest ago."""
    del job
    return min(choice, key=lambda one: one.last_used)


def least_loaded(job: Job, candidates: Sequence[Candidate]) -> Candidate:
    """Choose the worker with the smallest share of its slots in use; the first among equals."""
    del job
    if len(candidates) == 1:
        return candidates[0]
    return min(candidates, key=_share)


def most_capacity(job: Job, candidates: Sequence[Candidate]) -> Candidate:
    """Choose the worker with the most CPUs left, then memory, then slots."""
    del job
    return max(candidates, key=_left)


def affinity(job: Job, candidates: Sequence[Candidate]) -> Candidate:
    """Choose a worker that ran a job of this name, else one that has its image; least loaded."""
    name, image = job.spec.name, job.spec.image
    best = candidates
    if image is not None:
        best = [one for one in best if one.offer.image == image] or best
    if name is not None:
        best = [one for one in best if name in one.names] or best
    return min(best, key=_share)


def fastest_startup(job: Job, providers: Sequence[ProviderView]) -> ProviderView:
    """Choose the provider whose last worker was ready the soonest.

    One that has made none yet counts as the fastest, so that it is measured; one that failed when
    it was asked last comes after all that did not.
    """
    del job
    return min(providers, key=_startup)


def lowest_cost(job: Job, providers: Sequence[ProviderView]) -> ProviderView:
    """Choose the provider with the lowest cost per hour; one without a cost comes last."""
    del job
    return min(providers, key=_cost)


def _share(worker: Candidate) -> float:
    return worker.slots_used / worker.offer.slots


def _left(worker: Candidate) -> tuple[float, float, int]:
    memory = math.inf if worker.memory_free is None else worker.memory_free
    return (worker.cpus_free, memory, worker.slots_free)


def _startup(provider: ProviderView) -> tuple[bool, float]:
    seconds = 0.0 if provider.startup is None else provider.startup.total_seconds()
    return (provider.failures > 0, seconds)


def _cost(provider: ProviderView) -> float:
    return math.inf if provider.cost_per_hour is None else provider.cost_per_hour


WORKER_STRATEGIES: Mapping[str, WorkerStrategy] = {
    "first_available": first_available,
    "least_loaded": least_loaded,
    "most_capacity": most_capacity,
    "round_robin": round_robin,
    "affinity": affinity,
}

PROVIDER_STRATEGIES: Mapping[str, ProviderStrategy] = {
    "first_available": first_available,
    "fastest_startup": fastest_startup,
    "lowest_cost": lowest_cost,
    "round_robin": round_robin,
}
