from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.scheduling import coverage as coverage_module
from hodei_core.scheduling.coverage import Coverage
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer
from tests.scheduling.helpers import deterministic, needs, offer

MIB = 1024**2

offers = st.builds(
    lambda provider, slots, tenths, mib, gpu: offer(
        provider,
        slots=slots,
        cpus=tenths / 10,
        memory=None if mib is None else mib * MIB,
        labels={"gpu": "yes"} if gpu else {},
    ),
    provider=st.sampled_from(["near", "far"]),
    slots=st.integers(1, 6),
    tenths=st.integers(5, 40),
    mib=st.none() | st.integers(2, 8),
    gpu=st.booleans(),
)
sizes = st.tuples(st.integers(0, 10), st.none() | st.integers(0, 2))
"""What a job asks for: tenths of a CPU, MiB of memory."""


def asking(size: tuple[int, int | None], provider: str | None, gpu: bool) -> Needs:
    tenths, mib = size
    return needs(
        cpus=tenths / 10,
        memory=None if mib is None else mib * MIB,
        provider=provider,
        requires={"gpu": "yes"} if gpu else {},
    )


providers = st.sampled_from([None, "near", "far"])
picky = st.sampled_from([False, False, False, True])
classes = st.builds(asking, sizes, providers, picky)
fleets = st.lists(st.tuples(offers, st.integers(1, 3)), min_size=2, max_size=5)
demands = st.lists(st.tuples(classes, st.integers(1, 8)), min_size=3, max_size=8)
uniform_demands = st.builds(
    lambda size, wants: [(asking(size, *where), count) for where, count in wants],
    sizes,
    st.lists(st.tuples(st.tuples(providers, picky), st.integers(1, 8)), min_size=3, max_size=8),
)


@dataclass
class Single:
    """One arriving worker of the naive model, in whole numbers."""

    offer: Offer
    slots: int
    tenths: int
    memory: int | None

    def takes(self, wants: Needs) -> bool:
        """Place one job, if there is room."""
        tenths = round(wants.resources.cpus * 10)
        memory = wants.resources.memory or 0
        if (
            mismatch(wants, self.offer) is not None
            or not self.slots
            or tenths > self.tenths
            or (self.memory is not None and memory > self.memory)
        ):
            return False
        self.slots -= 1
        self.tenths -= tenths
        if self.memory is not None:
            self.memory -= memory
        return True


def singles(fleet: Sequence[tuple[Offer, int]]) -> list[Single]:
    return [
        Single(has, has.slots, round(has.resources.cpus * 10), has.resources.memory)
        for has, count in fleet
        for _ in range(count)
    ]


def naive(workers: Sequence[Single], wants: Needs, jobs: int) -> int:
    """Place jobs one by one, each into the first worker with room; return how many find none."""
    return sum(not any(worker.takes(wants) for worker in workers) for _ in range(jobs))


def covering(fleet: Sequence[tuple[Offer, int]]) -> Coverage:
    coverage = Coverage()
    for has, count in fleet:
        coverage.add(has, count)
    return coverage


@deterministic
@given(fleet=fleets, demand=uniform_demands)
def test_jobs_of_one_size_are_placed_as_one_by_one_into_single_workers(
    fleet: list[tuple[Offer, int]], demand: list[tuple[Needs, int]]
) -> None:
    coverage, workers = covering(fleet), singles(fleet)
    for wants, jobs in demand:
        assert coverage.take(wants, jobs) == naive(workers, wants, jobs)


@deterministic
@given(fleet=fleets, demand=demands)
def test_jobs_of_any_size_are_placed_first_come_first_served(
    fleet: list[tuple[Offer, int]], demand: list[tuple[Needs, int]]
) -> None:
    coverage, workers = covering(fleet), singles(fleet)
    for wants, jobs in demand:
        assert coverage.take(wants, jobs) == naive(workers, wants, jobs)


@deterministic
@given(fleet=fleets, demand=demands)
def test_no_more_is_placed_than_there_is_of_slots_cpus_and_memory(
    fleet: list[tuple[Offer, int]], demand: list[tuple[Needs, int]]
) -> None:
    coverage = covering(fleet)
    placed = [(wants, jobs - coverage.take(wants, jobs)) for wants, jobs in demand]
    assert all(count >= 0 for _, count in placed)
    assert sum(n for _, n in placed) <= sum(has.slots * count for has, count in fleet)
    assert sum(wants.resources.cpus * n for wants, n in placed) <= (
        sum(has.resources.cpus * count for has, count in fleet) + 1e-6
    )
    limited = [has.resources.memory for has, _ in fleet]
    if None not in limited:
        asked = sum((wants.resources.memory or 0) * n for wants, n in placed)
        assert asked <= sum((has.resources.memory or 0) * count for has, count in fleet)


@deterministic
@given(fleet=fleets, wants=classes, jobs=st.integers(0, 50))
def test_what_does_not_match_covers_nothing(
    fleet: list[tuple[Offer, int]], wants: Needs, jobs: int
) -> None:
    others = [(has, count) for has, count in fleet if mismatch(wants, has) is not None]
    assert covering(others).take(wants, jobs) == jobs


@deterministic
@given(fleet=fleets, wants=classes, first=st.integers(0, 10), second=st.integers(0, 10))
def test_jobs_placed_in_two_goes_are_placed_as_in_one(
    fleet: list[tuple[Offer, int]], wants: Needs, first: int, second: int
) -> None:
    twice, once = covering(fleet), covering(fleet)
    assert twice.take(wants, first) + twice.take(wants, second) == once.take(wants, first + second)


def test_a_job_takes_a_slot_and_what_it_asks_for() -> None:
    coverage = covering([(offer(slots=3, cpus=4, memory=4 * MIB), 1)])
    assert coverage.take(needs(cpus=3, memory=MIB), 1) == 0
    assert coverage.take(needs(cpus=2), 1) == 1
    assert coverage.take(needs(cpus=0, memory=4 * MIB), 1) == 1
    assert coverage.take(needs(cpus=1, memory=3 * MIB), 1) == 0
    assert coverage.take(needs(cpus=0), 2) == 1


def test_a_worker_without_a_limit_of_memory_covers_any() -> None:
    coverage = covering([(offer(slots=2, cpus=4), 1)])
    assert coverage.take(needs(cpus=1, memory="1TiB"), 3) == 1


def test_shares_of_a_cpu_add_up() -> None:
    coverage = covering([(offer(slots=20, cpus=1), 1)])
    assert [coverage.take(needs(cpus=0.1), 1) for _ in range(11)] == [0] * 10 + [1]
    assert covering([(offer(slots=20, cpus=0.3), 2)]).take(needs(cpus=0.1), 7) == 1


def test_a_worker_that_lacks_a_little_covers_nothing() -> None:
    coverage = covering([(offer(slots=9, cpus=1), 1)])
    assert coverage.take(needs(cpus=0.5), 1) == 0
    assert coverage.take(needs(cpus=0.500001), 1) == 1
    assert coverage.take(needs(cpus=0.5), 1) == 0


def test_each_of_alike_workers_keeps_the_slots_that_it_has_left() -> None:
    coverage = covering([(offer(slots=2, cpus=2), 3)])
    assert coverage.take(needs(cpus=2), 3) == 0
    assert coverage.take(needs(cpus=0), 4) == 1


def test_nothing_is_covered_by_no_worker() -> None:
    assert Coverage().take(needs(), 7) == 7
    assert covering([(offer(slots=4), 0)]).take(needs(), 7) == 7


def test_no_job_needs_no_worker() -> None:
    coverage = covering([(offer(cpus=1), 1)])
    assert coverage.take(needs(), 0) == 0
    assert coverage.take(needs(), 1) == 0


def test_workers_are_filled_in_the_order_in_which_they_were_added() -> None:
    near, far = offer("near", slots=2), offer("far", slots=2)
    coverage = covering([(near, 1), (far, 1)])
    assert coverage.take(needs(provider="far"), 1) == 0
    assert coverage.take(needs(), 1) == 0
    assert coverage.take(needs(provider="far"), 1) == 0
    assert coverage.take(needs(provider="near"), 2) == 1


@pytest.mark.parametrize(
    ("wants", "fits"),
    [
        pytest.param(needs(cpus=4), True, id="all-of-it"),
        pytest.param(needs(cpus=5), False, id="more-than-it-has"),
        pytest.param(needs(provider="far"), False, id="another-provider"),
        pytest.param(needs(image="debian"), False, id="an-image"),
    ],
)
def test_a_worker_fits_if_it_has_room_for_such_a_job_at_all(wants: Needs, fits: bool) -> None:
    assert Coverage.fits(wants, offer("near", cpus=4)) is fits


def looks(monkeypatch: pytest.MonkeyPatch, jobs: int) -> int:
    """Return how often a worker is looked at, if there are so many jobs of each class."""
    looked = 0

    def counted(wants: Needs, has: Offer) -> str | None:
        nonlocal looked
        looked += 1
        return mismatch(wants, has)

    monkeypatch.setattr(coverage_module, "mismatch", counted)
    coverage = covering([(offer(provider, slots=64, cpus=64), jobs) for provider in "abcd"])
    for tenths in range(1, 40):
        coverage.take(needs(cpus=tenths / 10), jobs)
    return looked


def test_the_cost_does_not_grow_with_the_number_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(monkeypatch, 1_000_000) <= looks(monkeypatch, 100) + 100


@deterministic
@given(fleet=fleets, demand=demands)
def test_there_are_at_most_two_more_bins_for_each_class(
    fleet: list[tuple[Offer, int]], demand: list[tuple[Needs, int]]
) -> None:
    coverage = covering([(has, count * 1_000) for has, count in fleet])
    for wants, jobs in demand:
        coverage.take(wants, jobs * 1_000)
    assert len(coverage._bins) <= len(fleet) + 2 * len(demand)


def test_workers_that_are_full_are_looked_at_no_more() -> None:
    coverage = covering([(offer(slots=1), 500), (offer(slots=2), 500)])
    coverage.take(needs(cpus=0), 1_500)
    assert coverage._bins == []
