from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from hodei_core.ids import WorkerId
from hodei_core.jobs import Job
from hodei_core.resources import Resources
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.decisions import (
    Assign,
    Provision,
    Reject,
    SchedulingDecision,
    Wait,
)
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.index import WorkerIndex
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.scheduler import SAMPLE, SmartScheduler
from hodei_core.scheduling.strategies import least_loaded
from hodei_core.states import Reason, WaitingFor
from hodei_core.workers import Offer
from tests.scheduling.helpers import job, needs, offer


class View:
    """A fleet of one's own making."""

    def __init__(self, *providers: ProviderView, workers: Sequence[Offer] = ()) -> None:
        self.index = WorkerIndex()
        self.given = providers
        self.asked: list[int] = []
        for number, has in enumerate(workers):
            self.index.add(WorkerId(f"worker-{number}"), has)

    def use(self, number: int, cpus: float = 0) -> None:
        self.index.reserve(WorkerId(f"worker-{number}"), Resources(cpus=cpus))

    def candidates(self, needs: Needs, most: int) -> Sequence[Candidate]:
        self.asked.append(most)
        return self.index.candidates(needs, most)

    def matching(self, needs: Needs) -> Sequence[Offer]:
        return self.index.matching(needs)

    def able(self, needs: Needs) -> Sequence[ProviderView]:
        return [provider for provider in self.given if mismatch(needs, provider.offer) is None]

    def providers(self) -> Sequence[ProviderView]:
        return self.given

    @property
    def job(self) -> Job:
        return job(1)


FITS = offer("fits")
SMALL = offer("small", cpus=0.5)


def provider(
    has: Offer = FITS,
    *,
    room: int = 1,
    arriving: int = 0,
    obstacle: str | None = None,
    never: str | None = None,
) -> ProviderView:
    return ProviderView(
        name=has.provider, offer=has, room=room, arriving=arriving, obstacle=obstacle, never=never
    )


def decide(*providers: ProviderView, busy: Sequence[Offer] = ()) -> SchedulingDecision:
    """Decide about a plain job, with workers that are all in use."""
    view = View(*providers, workers=busy)
    for number in range(len(busy)):
        view.use(number)
    return SmartScheduler().schedule(needs(), view)


def test_a_worker_that_fits_is_used_before_any_is_made() -> None:
    view = View(provider(room=5), provider(SMALL, arriving=3), workers=[FITS])
    assert SmartScheduler().schedule(needs(), view) == Assign(WorkerId("worker-0"), ("it fits",))


def test_a_worker_that_does_not_fit_is_not_used() -> None:
    view = View(provider(), workers=[SMALL])
    decision = SmartScheduler().schedule(needs(), view)
    assert isinstance(decision, Provision)


CASES = {
    "room, and nothing arriving": (
        decide(provider()),
        Provision("fits", ("no worker fits, and it can make one",)),
    ),
    "the first that can": (
        decide(provider(SMALL), provider(offer("one"), room=0), provider(offer("two"))),
        Provision("two", ("no worker fits, and it can make one",)),
    ),
    "room besides workers that are in use": (
        decide(provider(), busy=[FITS]),
        Provision("fits", ("no worker fits, and it can make one",)),
    ),
    "one is arriving, and has room for those ahead only": (
        decide(provider(arriving=1)),
        Provision("fits", ("no worker fits, and it can make one",)),
    ),
    "one is arriving that does not fit": (
        decide(provider(SMALL, arriving=1), provider()),
        Provision("fits", ("no worker fits, and it can make one",)),
    ),
    "no room, one is arriving": (
        decide(provider(room=0, arriving=1), busy=[FITS]),
        Wait(WaitingFor.PROVISIONING, ("fits is making a worker that fits",)),
    ),
    "all in use": (
        decide(provider(room=0), busy=[FITS]),
        Wait(WaitingFor.CAPACITY, ("every worker that fits is in use",)),
    ),
    "no room and no worker": (
        decide(provider(room=0)),
        Wait(WaitingFor.CAPACITY, ("fits: it has as many workers as it may",)),
    ),
    "an obstacle": (
        decide(provider(obstacle="the socket is gone")),
        Wait(WaitingFor.CAPACITY, ("fits: the socket is gone",)),
    ),
    "an obstacle, and another provider": (
        decide(provider(obstacle="the socket is gone"), provider(offer("other"))),
        Provision("other", ("no worker fits, and it can make one",)),
    ),
    "never": (
        decide(provider(never="no such image")),
        Reject(Reason.PROVISION_FAILED, ("fits: no such image",)),
    ),
    "never, none of them": (
        decide(provider(never="no such image"), provider(offer("other"), never="denied")),
        Reject(Reason.PROVISION_FAILED, ("fits: no such image", "other: denied")),
    ),
    "never, but another may": (
        decide(provider(never="no such image"), provider(offer("other"), room=0)),
        Wait(
            WaitingFor.CAPACITY,
            ("fits: no such image", "other: it has as many workers as it may"),
        ),
    ),
    "never, but a worker lives": (
        decide(provider(never="no such image"), busy=[FITS]),
        Wait(WaitingFor.CAPACITY, ("every worker that fits is in use",)),
    ),
    "nobody fits": (
        decide(provider(SMALL)),
        Reject(Reason.UNSCHEDULABLE, ("small: it has 0.5 CPUs, the job asks for 1",)),
    ),
    "nobody fits, and one can never make any": (
        decide(provider(SMALL, never="denied")),
        Reject(Reason.UNSCHEDULABLE, ("small: it has 0.5 CPUs, the job asks for 1",)),
    ),
    "no provider at all": (decide(), Reject(Reason.UNSCHEDULABLE, ())),
    "its provider is gone, its worker lives": (
        decide(busy=[FITS]),
        Wait(WaitingFor.CAPACITY, ("every worker that fits is in use",)),
    ),
}


@pytest.mark.parametrize(("decided", "expected"), CASES.values(), ids=CASES.keys())
def test_each_situation_has_its_own_decision(
    decided: SchedulingDecision, expected: SchedulingDecision
) -> None:
    assert decided == expected


def test_the_strategy_sees_a_bounded_sample_and_has_the_last_word() -> None:
    seen: list[int] = []

    def last(_job: Job, candidates: Sequence[Candidate]) -> Candidate:
        seen.append(len(candidates))
        return candidates[-1]

    view = View(workers=[FITS] * 100)
    decision = SmartScheduler(worker_strategy=last).schedule(needs(), view)
    assert seen == [SAMPLE]
    assert view.asked == [SAMPLE]
    assert isinstance(decision, Assign)


def test_the_same_view_gives_the_same_decision() -> None:
    views = [View(provider(), workers=[FITS] * 50) for _ in range(2)]
    first, second = ([SmartScheduler().schedule(needs(), v) for _ in range(9)] for v in views)
    assert first == second


def candidate(number: int, *, used: int, slots: int) -> Candidate:
    made = Candidate(WorkerId(f"worker-{number}"), attrs.evolve(FITS, slots=slots))
    made.slots_used = used
    return made


def test_the_least_loaded_worker_has_the_smallest_share_of_its_slots_in_use() -> None:
    workers = [
        candidate(0, used=1, slots=2),
        candidate(1, used=2, slots=8),
        candidate(2, used=1, slots=3),
    ]
    assert least_loaded(job(1), workers).id == "worker-1"


def test_among_equally_loaded_workers_the_first_is_taken() -> None:
    workers = [candidate(0, used=2, slots=4), candidate(1, used=1, slots=2)]
    assert least_loaded(job(1), workers).id == "worker-0"
    assert least_loaded(job(1), workers[1:]).id == "worker-1"
