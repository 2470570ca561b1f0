"""The scheduler: pure policy, who runs where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, TypeVar, cast

import attrs

from hodei_core.compat import override
from hodei_core.jobs import Job
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.decisions import (
    Assign,
    Provision,
    Reject,
    SchedulingDecision,
    Wait,
)
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.strategies import (
    PROVIDER_STRATEGIES,
    WORKER_STRATEGIES,
    ProviderStrategy,
    WorkerStrategy,
)
from hodei_core.states import Reason, WaitingFor
from hodei_core.workers import Offer

SAMPLE = 32
"""The most workers that a strategy is shown, so that no decision grows with the fleet."""

WorkerStrategyName: TypeAlias = Literal[
    "first_available", "least_loaded", "most_capacity", "round_robin", "affinity"
]
ProviderStrategyName: TypeAlias = Literal[
    "first_available", "fastest_startup", "lowest_cost", "round_robin"
]


class FleetView(Protocol):
    """The fleet as the scheduler sees it, at one instant."""

    @property
    def job(self) -> Job:
        """The job that is to be decided about: the first of its class."""

    def candidates(self, needs: Needs, most: int) -> Sequence[Candidate]:
        """Return workers on which the job fits now, at most `most`, in rotation."""

    def matching(self, needs: Needs) -> Sequence[Offer]:
        """Return the offers of live workers on which such a job could run, were they free."""

    def able(self, needs: Needs) -> Sequence[ProviderView]:
        """Return the providers whose workers could run such a job, in the order given."""

    def providers(self) -> Sequence[ProviderView]:
        """Return every provider, in the order in which the user gave them."""


class Scheduler(ABC):
    """Decides what becomes of a job. Deterministic, without I/O and without a clock."""

    @abstractmethod
    def schedule(self, needs: Needs, view: FleetView) -> SchedulingDecision:
        """Decide about the first job of a class of needs, given the fleet as it is.

        `Provision` is followed as far as the workers that are on their way have no room for
        the jobs that wait: to say it twice makes no second worker for one job.
        """


IN_USE = Wait(WaitingFor.CAPACITY, ("every worker that fits is in use",))
"""What becomes of a job whose turn comes when a slot is freed."""


def making(*providers: str) -> Wait:
    """Return what becomes of a job that these providers make a worker for."""
    reasons = tuple(f"{name} is making a worker that fits" for name in providers)
    return Wait(WaitingFor.PROVISIONING, reasons)


class SmartScheduler(Scheduler):
    """Reuses before it provisions: a worker that fits, else a provider that can make one.

    A job that `prefers` a provider takes a worker of that, or waits for one if the provider
    can make it now; else it runs wherever it fits.

    Args:
        worker_strategy: which of the workers that fit; a name or a function.
        provider_strategy: which of the providers that can make one; a name or a function.

    Raises:
        ValueError: there is no strategy of that name.
        TypeError: it is neither a name nor a function.
    """

    def __init__(
        self,
        *,
        worker_strategy: WorkerStrategy | WorkerStrategyName = "least_loaded",
        provider_strategy: ProviderStrategy | ProviderStrategyName = "fastest_startup",
    ) -> None:
        self._choose = _strategy("worker_strategy", worker_strategy, WORKER_STRATEGIES)
        self._choose_provider = _strategy(
            "provider_strategy", provider_strategy, PROVIDER_STRATEGIES
        )

    @override
    def schedule(self, needs: Needs, view: FleetView) -> SchedulingDecision:
        candidates = view.candidates(needs, SAMPLE)
        if needs.prefers is not None:
            preferred = _prefer(needs.prefers, needs, view, candidates)
            if not isinstance(preferred, list):
                return preferred
            candidates = preferred
        if candidates:
            return Assign(self._choose(view.job, candidates).id, _FITS)
        able = view.able(needs)
        askable = [provider for provider in able if provider.askable]
        if askable:
            chosen = self._choose_provider(view.job, askable)
            return Provision(chosen.name, _CAN_MAKE)
        return _without_worker(needs, view, able)


def _prefer(
    name: str, needs: Needs, view: FleetView, candidates: Sequence[Candidate]
) -> SchedulingDecision | list[Candidate]:
    """Return the workers to choose from, or what else follows from a preference."""
    if needs.provider not in (None, name):
        return list(candidates)
    mine = view.candidates(attrs.evolve(needs, provider=name), SAMPLE)
    if mine:
        return list(mine)
    for provider in view.able(needs):
        if provider.name == name:
            if provider.askable:
                return Provision(name, (f"the job prefers {name}, which can make a worker",))
            if provider.arriving:
                return making(name)
    return list(candidates)


def _without_worker(
    needs: Needs, view: FleetView, able: Sequence[ProviderView]
) -> SchedulingDecision:
    """Decide about a job that no worker has room for and that none can be made for now."""
    arriving = [provider.name for provider in able if provider.arriving]
    if arriving:
        return making(*arriving)
    if view.matching(needs):
        return IN_USE
    if able and all(provider.never is not None for provider in able):
        return Reject(Reason.PROVISION_FAILED, tuple(f"{p.name}: {p.never}" for p in able))
    if able:
        return Wait(WaitingFor.CAPACITY, tuple(f"{p.name}: {_obstacle(p)}" for p in able))
    return Reject(
        Reason.UNSCHEDULABLE,
        tuple(f"{p.name}: {mismatch(needs, p.offer)}" for p in view.providers()),
    )


_FITS = ("it fits",)
_CAN_MAKE = ("no worker fits, and it can make one",)

S = TypeVar("S", bound=Callable[..., object])


def _strategy(argument: str, given: object, named: Mapping[str, S]) -> S:
    if isinstance(given, str):
        if given in named:
            return named[given]
    elif callable(given):
        return cast("S", given)
    msg = f"{argument} must be a function or one of {', '.join(named)}, not {given!r}"
    raise (ValueError if isinstance(given, str) else TypeError)(msg)


def _obstacle(provider: ProviderView) -> str:
    return provider.never or provider.obstacle or "it has as many workers as it may"
