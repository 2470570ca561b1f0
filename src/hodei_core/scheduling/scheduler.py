"""The scheduler: pure policy, who runs where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import attrs

from hodei_core.compat import override
from hodei_core.scheduling.decisions import (
    Assign,
    Provision,
    Reject,
    SchedulingDecision,
    Wait,
)
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.index import Candidate
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.strategies import WorkerStrategy, least_loaded
from hodei_core.states import Reason, WaitingFor
from hodei_core.values import Value
from hodei_core.workers import Offer

SAMPLE = 32
"""The most workers that a strategy is shown, so that no decision grows with the fleet."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ProviderView(Value):
    """A provider as the scheduler sees it."""

    name: str
    offer: Offer
    """What each worker that it makes will have."""

    room: int
    """How many more workers it may have."""

    arriving: int
    """Workers that it is making."""

    obstacle: str | None = None
    """Why it is not asked for workers at the moment; None if it can be."""

    never: str | None = None
    """Why it can never make a worker, as it said itself; None if it did not."""


class FleetView(Protocol):
    """The fleet as the scheduler sees it, at one instant."""

    def candidates(self, needs: Needs, most: int) -> Sequence[Candidate]:
        """Return workers on which such a job fits now, at most `most`, in rotation."""

    def matching(self, needs: Needs) -> Sequence[Offer]:
        """Return the offers of live workers on which such a job could run, were they free."""

    def providers(self) -> Sequence[ProviderView]:
        """Return every provider, in the order in which the user gave them."""


class Scheduler(ABC):
    """Decides what becomes of a job. Deterministic, without I/O and without a clock."""

    @abstractmethod
    def schedule(self, needs: Needs, view: FleetView) -> SchedulingDecision:
        """Decide about the first job of a class of needs, given the fleet as it is."""


class SmartScheduler(Scheduler):
    """Reuses before it provisions: a worker that fits, else a provider that can make one."""

    def __init__(self, *, worker_strategy: WorkerStrategy = least_loaded) -> None:
        self._choose = worker_strategy

    @override
    def schedule(self, needs: Needs, view: FleetView) -> SchedulingDecision:
        candidates = view.candidates(needs, SAMPLE)
        if candidates:
            return Assign(self._choose(needs, candidates).id, _FITS)
        able = [p for p in view.providers() if mismatch(needs, p.offer) is None]
        # One worker at a time, by whichever provider, since this counts no demand.
        if any(provider.arriving for provider in able):
            return Wait(WaitingFor.PROVISIONING, ("a worker that fits is being made",))
        for provider in able:
            if _askable(provider):
                return Provision(provider.name, ("no worker fits, and it can make one",))
        if view.matching(needs):
            return Wait(WaitingFor.CAPACITY, ("every worker that fits is in use",))
        if able and all(provider.never is not None for provider in able):
            return Reject(Reason.PROVISION_FAILED, tuple(f"{p.name}: {p.never}" for p in able))
        obstacles = tuple(f"{p.name}: {p.obstacle}" for p in able if p.obstacle is not None)
        if able:
            return Wait(WaitingFor.CAPACITY, obstacles or ("no provider has room",))
        return Reject(Reason.UNSCHEDULABLE, _shortcomings(needs, view))


_FITS = ("it fits",)


def _askable(provider: ProviderView) -> bool:
    """Whether a provider can be asked for a worker now."""
    return provider.never is None and provider.obstacle is None and provider.room > 0


def _shortcomings(needs: Needs, view: FleetView) -> tuple[str, ...]:
    """Return for each provider why nothing that it makes could run such a job."""
    return tuple(f"{p.name}: {mismatch(needs, p.offer)}" for p in view.providers())
