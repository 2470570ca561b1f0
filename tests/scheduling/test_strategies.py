from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, cast

import attrs
import pytest

from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.decisions import Assign, Provision, SchedulingDecision, Wait
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.index import WorkerIndex
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.scheduler import ProviderStrategyName, SmartScheduler, WorkerStrategyName
from hodei_core.scheduling.strategies import (
    PROVIDER_STRATEGIES,
    WORKER_STRATEGIES,
    affinity,
    fastest_startup,
    least_loaded,
    lowest_cost,
    most_capacity,
    round_robin,
)
from hodei_core.specs import JobSpec
from hodei_core.states import WaitingFor
from hodei_core.workers import Offer
from tests.scheduling.helpers import NOW, offer

GIB = 1024**3


def a_job(**fields: Any) -> Job:
    return Job.accepted(id=JobId("job-1"), spec=JobSpec("true", **fields), seq=1, at=NOW)


# Workers


def worker(
    name: str,
    *,
    slots: int = 10,
    used: int = 5,
    cpus: float = 10,
    memory: int | None = None,
    last_used: int = 100,
    names: Sequence[str] = (),
    image: str | None = None,
) -> Candidate:
    """Return a worker with so many CPUs left; what is not given is nobody's first choice."""
    has = offer(cpus=100, memory=memory, slots=slots, image=image)
    made = Candidate(WorkerId(name), has)
    made.slots_used, made.cpus_free, made.last_used = used, cpus, last_used
    made.names = tuple(names)
    return made


EACH_WORKER = [
    worker("first_available"),
    worker("least_loaded", used=1),
    worker("most_capacity", cpus=20),
    worker("round_robin", last_used=1),
    worker("affinity", names=["build"]),
]
"""Workers each of which is the choice of the strategy after which it is named."""


@pytest.mark.parametrize("name", WORKER_STRATEGIES)
def test_each_strategy_for_workers_chooses_what_no_other_would(name: str) -> None:
    job = a_job(name="build")
    assert WORKER_STRATEGIES[name](job, EACH_WORKER).id == name
    others = [choose for other, choose in WORKER_STRATEGIES.items() if other != name]
    assert len(others) == 4
    assert all(choose(job, EACH_WORKER).id != name for choose in others)


@pytest.mark.parametrize("name", WORKER_STRATEGIES)
def test_each_strategy_for_workers_chooses_the_same_in_whatever_order_but_the_first(
    name: str,
) -> None:
    order = EACH_WORKER[::-1]
    expected = "affinity" if name == "first_available" else name
    assert WORKER_STRATEGIES[name](a_job(name="build"), order).id == expected


@pytest.mark.parametrize("name", WORKER_STRATEGIES)
def test_each_strategy_for_workers_takes_the_only_one(name: str) -> None:
    only = worker("only")
    assert WORKER_STRATEGIES[name](a_job(), [only]) is only


@pytest.mark.parametrize("name", WORKER_STRATEGIES)
def test_each_strategy_for_workers_takes_the_first_of_equals(name: str) -> None:
    equals = [worker("one"), worker("two"), worker("three")]
    assert WORKER_STRATEGIES[name](a_job(name="build", image="debian"), equals).id == "one"


def test_the_least_loaded_is_so_by_share_and_not_by_number() -> None:
    workers = [worker("2/4", slots=4, used=2), worker("3/9", slots=9, used=3)]
    assert least_loaded(a_job(), workers).id == "3/9"


def test_most_capacity_compares_cpus_then_memory_then_slots() -> None:
    by_slots = [worker("few", slots=6), worker("many", slots=9)]
    by_memory = [worker("more", memory=2 * GIB), worker("less", memory=GIB, slots=99)]
    by_cpus = [worker("less", cpus=1, memory=9 * GIB, slots=99), worker("more", memory=GIB)]
    assert most_capacity(a_job(), by_slots).id == "many"
    assert most_capacity(a_job(), by_memory).id == "more"
    assert most_capacity(a_job(), by_cpus).id == "more"


def test_most_capacity_counts_what_is_left_and_not_what_there_is() -> None:
    full = worker("large-and-used", memory=8 * GIB)
    full.memory_free = GIB
    assert most_capacity(a_job(), [full, worker("small", memory=2 * GIB)]).id == "small"


def test_no_limit_of_memory_is_the_most_capacity() -> None:
    workers = [worker("limited", memory=1024 * GIB), worker("unlimited")]
    assert most_capacity(a_job(), workers).id == "unlimited"


def test_round_robin_takes_a_worker_that_was_never_used_first() -> None:
    workers = [worker("old", last_used=1), worker("new", last_used=0)]
    assert round_robin(a_job(), workers).id == "new"


def test_affinity_takes_the_least_loaded_of_those_that_ran_the_name() -> None:
    workers = [
        worker("idle", used=0),
        worker("busy", used=3, names=["build", "test"]),
        worker("less-busy", used=2, names=["build", "other"]),
    ]
    assert affinity(a_job(name="build"), workers).id == "less-busy"


def test_affinity_takes_a_worker_with_the_image_if_none_ran_the_name() -> None:
    workers = [worker("idle", used=0), worker("imaged", image="debian")]
    assert affinity(a_job(name="build", image="debian"), workers).id == "imaged"
    assert affinity(a_job(image="debian"), workers).id == "imaged"


def test_affinity_takes_the_least_loaded_of_all_if_nothing_binds_the_job() -> None:
    workers = [worker("busy", names=["other"], image="debian"), worker("idle", used=0)]
    assert affinity(a_job(name="build", image="alpine"), workers).id == "idle"
    assert affinity(a_job(), workers).id == "idle"


# Providers


def provider(
    name: str,
    *,
    startup: float | None = 50,
    cost: float | None = 50,
    last_used: int = 100,
    room: int = 1,
    arriving: int = 0,
    obstacle: str | None = None,
    never: str | None = None,
    has: Offer | None = None,
) -> ProviderView:
    """Return a provider; what is not given is nobody's first choice."""
    return ProviderView(
        name=name,
        offer=has or offer(name),
        room=room,
        arriving=arriving,
        obstacle=obstacle,
        never=never,
        startup=None if startup is None else timedelta(seconds=startup),
        cost_per_hour=cost,
        last_used=last_used,
    )


EACH_PROVIDER = [
    provider("first_available"),
    provider("fastest_startup", startup=1),
    provider("lowest_cost", cost=1),
    provider("round_robin", last_used=1),
]
"""Providers each of which is the choice of the strategy after which it is named."""


@pytest.mark.parametrize("name", PROVIDER_STRATEGIES)
def test_each_strategy_for_providers_chooses_what_no_other_would(name: str) -> None:
    assert PROVIDER_STRATEGIES[name](a_job(), EACH_PROVIDER).name == name
    others = [choose for other, choose in PROVIDER_STRATEGIES.items() if other != name]
    assert len(others) == 3
    assert all(choose(a_job(), EACH_PROVIDER).name != name for choose in others)


@pytest.mark.parametrize("name", PROVIDER_STRATEGIES)
def test_each_strategy_for_providers_takes_the_first_of_equals(name: str) -> None:
    equals = [provider("one"), provider("two")]
    assert PROVIDER_STRATEGIES[name](a_job(), equals).name == "one"


def test_a_provider_that_has_made_no_worker_counts_as_the_fastest() -> None:
    providers = [provider("quick", startup=0.001), provider("unknown", startup=None)]
    assert fastest_startup(a_job(), providers).name == "unknown"


def test_a_provider_that_failed_last_is_not_taken_for_the_fastest() -> None:
    failing = attrs.evolve(provider("failing", startup=None), failures=1)
    assert fastest_startup(a_job(), [failing, provider("slow", startup=300)]).name == "slow"
    assert fastest_startup(a_job(), [failing]).name == "failing"


@pytest.mark.parametrize("argument", ["worker_strategy", "provider_strategy"])
@pytest.mark.parametrize("value", [None, 1, b"least_loaded"])
def test_what_is_neither_a_name_nor_a_function_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{argument} must be a function or one of "):
        SmartScheduler(**{argument: value})


def test_a_provider_without_a_cost_comes_after_all_that_have_one() -> None:
    assert lowest_cost(a_job(), [provider("a", cost=None), provider("b", cost=1e9)]).name == "b"
    assert lowest_cost(a_job(), [provider("a", cost=1), provider("b", cost=0)]).name == "b"
    assert lowest_cost(a_job(), [provider("a", cost=None), provider("b", cost=None)]).name == "a"


def test_round_robin_takes_a_provider_that_was_never_asked_first() -> None:
    providers = [provider("old", last_used=1), provider("new", last_used=0)]
    assert round_robin(a_job(), providers).name == "new"


# The scheduler that uses them


class View:
    """A fleet of one's own making, before a job of one's own making."""

    def __init__(
        self,
        *providers: ProviderView,
        job: Job,
        workers: Sequence[Candidate] = (),
        free: Sequence[str] = (),
        busy: Sequence[str] = (),
    ) -> None:
        self.given = providers
        self.job = job
        self.workers = workers
        self.index = WorkerIndex()
        for name in (*free, *busy):
            self.index.add(WorkerId(name), offer(name))
        for name in busy:
            self.index.reserve(WorkerId(name), job.spec.resources)

    def candidates(self, needs: Needs, most: int) -> Sequence[Candidate]:
        return self.workers or self.index.candidates(needs, most)

    def matching(self, needs: Needs) -> Sequence[Offer]:
        return self.index.matching(needs)

    def able(self, needs: Needs) -> Sequence[ProviderView]:
        return [provider for provider in self.given if mismatch(needs, provider.offer) is None]

    def providers(self) -> Sequence[ProviderView]:
        return self.given


def decide(view: View, scheduler: SmartScheduler | None = None) -> SchedulingDecision:
    return (scheduler or SmartScheduler()).schedule(Needs.of(view.job.spec), view)


def place(*providers: ProviderView, free: Sequence[str] = (), busy: Sequence[str] = ()) -> str:
    """Return what becomes of a job that prefers the provider "mine"."""
    decision = decide(View(*providers, job=a_job(prefers="mine"), free=free, busy=busy))
    if isinstance(decision, Assign):
        return f"runs on {decision.worker_id}"
    if isinstance(decision, Provision):
        return f"{decision.provider} makes one"
    assert isinstance(decision, Wait)
    return f"waits for {decision.waiting_for.value}"


@pytest.mark.parametrize("name", WORKER_STRATEGIES)
def test_a_strategy_for_workers_is_used_by_its_name(name: str) -> None:
    scheduler = SmartScheduler(worker_strategy=cast("WorkerStrategyName", name))
    view = View(job=a_job(name="build"), workers=EACH_WORKER)
    assert decide(view, scheduler) == Assign(WorkerId(name), ("it fits",))


@pytest.mark.parametrize("name", PROVIDER_STRATEGIES)
def test_a_strategy_for_providers_is_used_by_its_name(name: str) -> None:
    scheduler = SmartScheduler(provider_strategy=cast("ProviderStrategyName", name))
    decision = decide(View(*EACH_PROVIDER, job=a_job()), scheduler)
    assert decision == Provision(name, ("no worker fits, and it can make one",))


def test_least_loaded_and_fastest_startup_are_the_defaults() -> None:
    on_a_worker = decide(View(job=a_job(name="build"), workers=EACH_WORKER))
    assert on_a_worker == Assign(WorkerId("least_loaded"), ("it fits",))
    made = decide(View(*EACH_PROVIDER, job=a_job()))
    assert isinstance(made, Provision)
    assert made.provider == "fastest_startup"


def test_strategies_may_be_functions_and_are_told_the_job() -> None:
    seen: list[Job] = []

    def last(job: Job, choice: Sequence[Any]) -> Any:
        seen.append(job)
        return choice[-1]

    scheduler = SmartScheduler(worker_strategy=last, provider_strategy=last)
    job = a_job(name="build")
    on_a_worker = decide(View(job=job, workers=EACH_WORKER), scheduler)
    assert on_a_worker == Assign(WorkerId("affinity"), ("it fits",))
    made = decide(View(*EACH_PROVIDER, job=job), scheduler)
    assert isinstance(made, Provision)
    assert made.provider == "round_robin"
    assert seen == [job, job]


def test_only_providers_that_can_be_asked_now_are_to_be_chosen() -> None:
    providers = [
        provider("full", startup=1, room=0),
        provider("tripped", startup=1, obstacle="it failed"),
        provider("unable", startup=1, never="no such image"),
        provider("small", startup=1, has=offer("small", cpus=0.5)),
        provider("slow", startup=99),
    ]
    decision = decide(View(*providers, job=a_job()))
    assert isinstance(decision, Provision)
    assert decision.provider == "slow"


@pytest.mark.parametrize("argument", ["worker_strategy", "provider_strategy"])
def test_an_unknown_name_is_refused_by_an_error_that_lists_those_there_are(argument: str) -> None:
    named = {"worker_strategy": WORKER_STRATEGIES, "provider_strategy": PROVIDER_STRATEGIES}
    make = cast("Callable[..., SmartScheduler]", SmartScheduler)
    with pytest.raises(ValueError, match=f"^{argument} must be a function or one of ") as caught:
        make(**{argument: "fastest"})
    assert ", ".join(named[argument]) + ", not 'fastest'" in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "name"), [("worker_strategy", "lowest_cost"), ("provider_strategy", "affinity")]
)
def test_a_strategy_of_the_other_kind_is_refused(argument: str, name: str) -> None:
    make = cast("Callable[..., SmartScheduler]", SmartScheduler)
    with pytest.raises(ValueError, match=f"not '{name}'"):
        make(**{argument: name})


# Jobs that prefer a provider


def test_a_job_takes_a_free_worker_of_the_provider_that_it_prefers() -> None:
    assert place(provider("mine"), free=["other", "mine"]) == "runs on mine"
    assert place(provider("mine"), free=["mine", "other"]) == "runs on mine"


def test_the_strategy_chooses_among_the_workers_of_the_preferred_provider() -> None:
    view = View(job=a_job(prefers="mine"), free=["other"])
    for number, used in enumerate([1, 0, 2]):
        worker_id = WorkerId(f"mine-{number}")
        view.index.add(worker_id, offer("mine", slots=3))
        for _ in range(used):
            view.index.reserve(worker_id, view.job.spec.resources)
    assert decide(view) == Assign(WorkerId("mine-1"), ("it fits",))


def test_a_job_has_a_worker_made_by_the_preferred_provider_although_another_has_one_free() -> None:
    assert place(provider("mine"), free=["other"]) == "mine makes one"
    assert place(provider("other", startup=1), provider("mine")) == "mine makes one"


def test_a_job_waits_while_the_preferred_provider_makes_a_worker() -> None:
    full = provider("mine", room=0, arriving=1)
    assert place(full, free=["other"]) == "waits for provisioning"
    assert place(full, provider("other")) == "waits for provisioning"
    probing = provider("mine", arriving=1, obstacle="it is being tried")
    assert place(probing, free=["other"]) == "waits for provisioning"


UNABLE = {
    "at its limit": [provider("mine", room=0)],
    "its breaker is open": [provider("mine", obstacle="it failed")],
    "it can never": [provider("mine", never="no such image")],
    "unknown": [],
    "too small": [provider("mine", has=offer("mine", cpus=0.5))],
    "too small, and one arrives": [provider("mine", arriving=1, has=offer("mine", cpus=0.5))],
}


@pytest.mark.parametrize("mine", UNABLE.values(), ids=UNABLE)
def test_a_job_runs_anywhere_if_the_preferred_provider_cannot_now(
    mine: list[ProviderView],
) -> None:
    assert place(*mine, free=["other"]) == "runs on other"
    assert place(*mine, provider("other")) == "other makes one"
    assert place(*mine, free=["other"], busy=["mine"]) == "runs on other"


def test_a_preference_never_widens_what_is_possible() -> None:
    needy = a_job(prefers="mine", requires={"gpu": "yes"})
    view = View(provider("mine"), job=needy, free=["mine"])
    view.index.add(WorkerId("able"), offer("other", labels={"gpu": "yes"}))
    assert decide(view) == Assign(WorkerId("able"), ("it fits",))


def test_a_preference_for_the_demanded_provider_changes_nothing() -> None:
    job = a_job(provider="mine", prefers="mine")
    assert decide(View(job=job, free=["other", "mine"])) == Assign(WorkerId("mine"), ("it fits",))
    made = decide(View(provider("mine"), job=job, free=["other"]))
    assert isinstance(made, Provision)
    assert made.provider == "mine"


def test_a_demand_for_one_provider_beats_the_preference_for_another() -> None:
    job = a_job(provider="other", prefers="mine")
    both = [provider("mine"), provider("other")]
    view = View(*both, job=job, free=["mine", "other"])
    assert decide(view) == Assign(WorkerId("other"), ("it fits",))
    made = decide(View(*both, job=job, free=["mine"]))
    assert isinstance(made, Provision)
    assert made.provider == "other"
    waits = decide(View(provider("mine"), provider("other", room=0), job=job, busy=["other"]))
    assert isinstance(waits, Wait)
    assert waits.waiting_for is WaitingFor.CAPACITY
