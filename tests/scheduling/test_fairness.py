from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodei_core.ids import WorkerId
from hodei_core.scheduling.fairness import PATIENCE_SECONDS
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.scheduler import SmartScheduler, WorkerStrategyName
from hodei_core.workers import Offer
from tests.scheduling.helpers import deterministic, needs, offer
from tests.scheduling.simulation import FOR_EVER, Simulation, starts

LONGEST = 20.0
"""How long a job of the properties runs at most."""

FIRST, SECOND, THIRD = (WorkerId(f"worker-{number}") for number in range(3))
HOST = offer(cpus=4, slots=8)


def crowded(*workers: Offer, length: float = 10) -> Simulation:
    """Return a host of which every CPU is taken again, by a one-CPU job, as soon as it is free."""
    simulation = Simulation(*(workers or (HOST,)))
    cpus = sum(worker.offer.resources.cpus for worker in simulation.index.workers())
    simulation.trickle(length / cpus, length)
    simulation.run(2 * length)
    assert all(worker.cpus_free == 0 for worker in simulation.index.workers())
    return simulation


def overtaken(*workers: Offer, length: float = 10) -> tuple[Simulation, int]:
    """Return a crowded host, and a job of it that was just overtaken for the first time."""
    simulation = crowded(*workers, length=length)
    seq = simulation.submit(1, cpus=4)
    simulation.watched.add(seq)
    while seq not in simulation.overtaken:
        simulation.run(0.5)
    return simulation, seq


def kept_for_one(*workers: Offer, length: float = 10) -> tuple[Simulation, int]:
    """Return a crowded host of which a worker was just kept for a job, and that job."""
    simulation, seq = overtaken(*workers, length=length)
    simulation.run(PATIENCE_SECONDS)
    assert list(simulation.kept.values()) == [seq]
    assert seq not in simulation.started
    return simulation, seq


# Nothing that can be placed waits for ever


def test_the_patience_is_that_of_the_contract() -> None:
    assert PATIENCE_SECONDS == 30


@pytest.mark.parametrize("length", [2.0, 5.0, 10.0, 30.0])
def test_a_large_job_under_an_endless_trickle_starts_within_thirty_seconds_plus_their_length(
    length: float,
) -> None:
    simulation, large = overtaken(length=length)
    at, _ = simulation.overtaken[large]
    simulation.run(PATIENCE_SECONDS + length)
    assert at + PATIENCE_SECONDS < simulation.started[large] <= at + PATIENCE_SECONDS + length


def test_without_a_kept_worker_that_job_would_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation, large = overtaken()
    monkeypatch.setattr(simulation.index, "keep", lambda *_: None)
    simulation.run(1_000)
    assert large not in simulation.started


def test_a_job_that_lacks_memory_is_given_a_worker_too() -> None:
    simulation = Simulation(offer(cpus=64, slots=64, memory=4))
    simulation.trickle(2.5, 10, memory=1)
    simulation.run(20)
    large = simulation.submit(1, memory=4)
    simulation.run(PATIENCE_SECONDS + 12.5)
    assert large in simulation.started


workers = st.builds(
    lambda cpus, slots, memory: offer(cpus=cpus, slots=slots, memory=memory),
    cpus=st.integers(2, 4),
    slots=st.integers(1, 4),
    memory=st.sampled_from([None, 4, 8]),
)
lengths = st.integers(1, int(LONGEST))
some_jobs = st.lists(
    st.tuples(
        st.integers(0, 60),
        lengths,
        st.sampled_from([1, 1.5, 2, 3, 4]),
        st.sampled_from([None, None, 2, 4]),
    ),
    min_size=1,
    max_size=6,
)
trickles = st.lists(
    st.tuples(st.sampled_from([0.5, 1]), lengths, st.sampled_from([0.4, 0.8, 1])),
    min_size=1,
    max_size=2,
)
"""CPUs and seconds of each small job, and which part of what the fleet can run of them comes."""


def room_for(cpus: float, fleet: list[Offer]) -> float:
    """Return how many jobs of a size run at one time."""
    return sum(min(has.slots, has.resources.cpus // cpus) for has in fleet)


@settings(deterministic, max_examples=300)
@given(fleet=st.lists(workers, min_size=1, max_size=3), jobs=some_jobs, small=trickles)
def test_whatever_arrives_each_job_that_can_be_placed_starts_in_bounded_time(
    fleet: list[Offer],
    jobs: list[tuple[int, int, float, int | None]],
    small: list[tuple[float, int, float]],
) -> None:
    """The bound, for the job that comes before all others (and by induction for the next).

    As long as nobody overtakes it nothing but what runs is on the workers that match it: those
    are empty after LONGEST at the latest. From when it is first overtaken it takes
    PATIENCE_SECONDS until a worker is kept for it, of which nobody is ahead; that is empty
    after LONGEST. So each job ahead, and the job itself, takes PATIENCE_SECONDS + LONGEST at
    most from then on.
    """
    simulation = Simulation(*fleet)
    for cpus, length, part in small:
        every = length * len(small) / (part * room_for(cpus, fleet))
        simulation.trickle(every, length, cpus=cpus)
    for after, length, cpus, memory in sorted(jobs, key=lambda job: job[0]):
        simulation.run(after - simulation.now)
        fits = [has for has in fleet if cpus <= has.resources.cpus]
        if any((memory or 0) <= (has.resources.memory or 99) for has in fits):
            simulation.watched.add(simulation.submit(length, cpus=cpus, memory=memory))
    while simulation.now < 900 and simulation.watched - simulation.started.keys():
        simulation.run(10)
    for seq in simulation.watched:
        due, ahead = simulation.ahead_when_due[seq]
        each = PATIENCE_SECONDS + LONGEST
        first, passed = simulation.overtaken.get(seq, (FOR_EVER, 0))
        assert simulation.started[seq] <= min(
            first + (passed + 1) * each, due + LONGEST + (ahead + 1) * each
        )


acts = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from([2, 3, 4]), st.integers(0, 1)),
        st.tuples(st.just("run"), st.integers(5, 40)),
        st.tuples(st.sampled_from(["cancel", "lose", "drain"]), st.integers(0, 99)),
        st.tuples(st.just("join")),
    ),
    min_size=10,
    max_size=40,
)


@deterministic
@given(acts=acts)
def test_whatever_happens_no_worker_stays_kept_when_nobody_waits(
    acts: list[tuple[Any, ...]],
) -> None:
    simulation = Simulation(HOST, HOST)
    simulation.making = (ProviderView(name="local", offer=HOST, room=0, arriving=1),)
    simulation.trickle(1, 8, until=400)
    large = []
    for kind, *how in acts:
        if kind == "submit":
            large.append(simulation.submit(how[0], cpus=how[0], priority=how[1]))
        elif kind == "run":
            simulation.run(how[0])
        elif kind == "join":
            simulation.join(HOST)
        elif kind == "cancel":
            simulation.cancel(large.pop(how[0] % len(large)) if large else 0)
        elif workers := simulation.index.workers():
            worker_id = workers[how[0] % len(workers)].id
            getattr(simulation, kind)(worker_id)
    fresh = simulation.join(HOST)
    simulation.run(10_000)
    assert simulation.waiting == 0
    assert simulation.kept == {}
    assert not simulation.index.keeps
    assert simulation.fairness.next_at() is None
    free = {worker.id for worker in simulation.index.candidates(needs(cpus=4), 99)}
    assert free == {worker.id for worker in simulation.index.workers() if worker.taking}
    assert fresh in free


# Whom it is for


def test_no_worker_is_kept_for_a_job_that_nobody_overtakes() -> None:
    simulation = Simulation(HOST)
    for _ in range(8):
        simulation.submit(100, cpus=4)
    simulation.run(100)
    assert simulation.kept == {}
    assert simulation.fairness.next_at() is None


def test_a_worker_is_kept_after_thirty_seconds_and_not_before() -> None:
    simulation, large = overtaken()
    at, _ = simulation.overtaken[large]
    simulation.run(at + PATIENCE_SECONDS - simulation.now - 0.1)
    simulation.fairness.keep(simulation.now)
    assert simulation.kept == {}
    simulation.run(0.1)
    assert simulation.kept == {FIRST: large}


def test_higher_priorities_may_overtake_for_ever_without_a_worker_being_kept() -> None:
    simulation = Simulation(HOST)
    simulation.trickle(2.5, 10, priority=1)
    simulation.run(20)
    large = simulation.submit(1, cpus=4)
    simulation.run(500)
    assert large not in simulation.started
    assert simulation.kept == {}


def test_a_job_of_a_higher_priority_takes_room_of_a_kept_worker() -> None:
    simulation, large = kept_for_one()
    urgent = simulation.submit(1, priority=1)
    simulation.run(5)
    assert simulation.placed[urgent] == FIRST
    assert large not in simulation.started


def test_a_job_that_comes_before_takes_room_of_a_kept_worker_and_one_behind_does_not() -> None:
    simulation = crowded()
    before = simulation.submit(1, delay=PATIENCE_SECONDS + 5)
    large = simulation.submit(1, cpus=4)
    simulation.run(PATIENCE_SECONDS + 5)
    assert simulation.kept == {FIRST: large}
    behind = simulation.submit(1)
    simulation.run(10)
    assert simulation.started[before] < simulation.started[large] < simulation.now
    assert simulation.started.get(behind, FOR_EVER) > simulation.started[large]


@pytest.mark.parametrize("strategy", ["least_loaded", "most_capacity", "round_robin"])
def test_a_job_of_a_higher_priority_takes_no_kept_worker_if_another_has_room(
    strategy: WorkerStrategyName,
) -> None:
    scheduler = SmartScheduler(worker_strategy=strategy)
    simulation = Simulation(HOST, HOST, scheduler=scheduler)
    simulation.trickle(3, 10, priority=1)
    simulation.trickle(1, 5)
    simulation.run(20)
    large = simulation.submit(1, cpus=4)
    simulation.run(300)
    assert large in simulation.started


def test_jobs_of_other_workers_do_not_make_it_overtaken() -> None:
    simulation = Simulation(HOST, offer("other", cpus=2, slots=2))
    simulation.submit(FOR_EVER, cpus=4)
    simulation.run()
    large = simulation.submit(1, cpus=4)
    simulation.trickle(1, 2, cpus=1)
    simulation.run(200)
    assert large not in simulation.started
    assert simulation.kept == {}


def test_the_worker_that_lacks_the_least_is_kept() -> None:
    simulation = Simulation(HOST, HOST, HOST)
    for cpus in (3, 1, 2):
        simulation.submit(FOR_EVER, cpus=cpus)
        simulation.run()
    simulation.submit(1, cpus=4)
    simulation.run()
    simulation.submit(1, cpus=1)
    simulation.run(PATIENCE_SECONDS)
    used = {worker.id: 4 - worker.cpus_free for worker in simulation.index.workers()}
    assert sorted(used.values()) == [1, 2, 3]
    assert [used[worker_id] for worker_id in simulation.kept] == [1]


def test_the_smallest_of_equally_fitting_workers_is_kept() -> None:
    sizes = (16, 4, 8)
    simulation = Simulation(*(offer(cpus=size, slots=8) for size in sizes))
    for size in sizes:
        simulation.submit(FOR_EVER, cpus=size - 2)
    simulation.run()
    simulation.submit(1, cpus=4)
    simulation.run()
    simulation.submit(1, cpus=1)
    simulation.run(PATIENCE_SECONDS)
    assert [simulation.index[worker_id].offer.resources.cpus for worker_id in simulation.kept] == [
        4
    ]


def test_a_worker_without_a_free_slot_lacks_more_than_one_with_a_slot() -> None:
    simulation = Simulation(offer(cpus=4, slots=1), offer(cpus=4, slots=2))
    simulation.submit(FOR_EVER, cpus=2)
    simulation.submit(FOR_EVER, cpus=2)
    simulation.run()
    simulation.submit(1, cpus=4)
    simulation.run()
    simulation.submit(1, cpus=1)
    simulation.run(PATIENCE_SECONDS)
    assert list(simulation.kept) == [SECOND]


def test_memory_that_is_missing_counts_as_cpus_do() -> None:
    simulation = Simulation(*[offer(cpus=64, slots=8, memory=8)] * 2)
    for memory in (8, 2):
        simulation.submit(FOR_EVER, memory=memory)
        simulation.run()
    simulation.submit(1, memory=8)
    simulation.run()
    simulation.submit(1, memory=0)
    simulation.run(PATIENCE_SECONDS)
    (kept,) = simulation.kept
    assert simulation.index[kept].memory_free == 6


def test_a_job_that_becomes_the_first_of_its_needs_by_its_priority_is_not_overtaken_for_ever() -> (
    None
):
    simulation = Simulation(HOST)
    simulation.trickle(2.5, 10, priority=1)
    simulation.run(20)
    simulation.submit(1, cpus=4)
    simulation.run(20)
    urgent = simulation.submit(1, cpus=4, priority=1)
    simulation.run(PATIENCE_SECONDS + 15)
    assert urgent in simulation.started


def test_a_job_that_was_behind_one_that_was_overtaken_is_not_overtaken_by_those_ahead() -> None:
    simulation = Simulation(HOST)
    simulation.submit(10, cpus=4)
    simulation.run()
    first = simulation.submit(10, cpus=4)
    between = simulation.submit(100, cpus=1)
    following = simulation.submit(1, cpus=4)
    simulation.run(100)
    assert starts(simulation, [first, between, following]) == [10, 20, None]
    assert simulation.kept == {}


def test_each_of_two_jobs_that_are_overtaken_has_a_worker_of_its_own() -> None:
    simulation = crowded(HOST, HOST)
    large, other = simulation.submit(1, cpus=4), simulation.submit(1, cpus=3)
    while len(simulation.kept) < 2:
        simulation.run(0.5)
    assert sorted(simulation.kept.values()) == [large, other]
    simulation.run(10)
    assert None not in starts(simulation, [large, other])


def test_a_worker_that_is_kept_for_a_job_behind_is_kept_for_the_one_that_comes_before() -> None:
    simulation = Simulation(HOST)
    simulation.trickle(2.5, 10, priority=1)
    simulation.run(20)
    behind = simulation.submit(1, cpus=3)
    simulation.submit(1, cpus=0)
    simulation.run(PATIENCE_SECONDS)
    assert simulation.kept == {FIRST: behind}
    urgent = simulation.submit(1, cpus=4, priority=2)
    simulation.run(2.5 + PATIENCE_SECONDS)
    assert simulation.kept == {FIRST: urgent}
    simulation.run(10)
    assert urgent in simulation.started


def test_a_job_that_waits_for_the_provider_that_it_prefers_keeps_no_worker_of_another() -> None:
    simulation = Simulation(HOST)
    mine = offer("mine", cpus=4, slots=8)
    simulation.making = (ProviderView(name="mine", offer=mine, room=0, arriving=1),)
    waits = simulation.submit(1, prefers="mine")
    simulation.trickle(1, 1)
    simulation.run(100)
    assert waits not in simulation.started
    assert simulation.kept == {}


def test_a_job_that_runs_anywhere_since_its_provider_cannot_keeps_any_worker() -> None:
    simulation = crowded()
    large = simulation.submit(1, cpus=4, prefers="mine")
    simulation.run(PATIENCE_SECONDS + 12.5)
    assert large in simulation.started


def test_a_job_is_given_any_worker_once_the_provider_that_it_prefers_makes_none_for_it() -> None:
    simulation = crowded()
    mine = offer("mine", cpus=4, slots=8)
    simulation.making = (ProviderView(name="mine", offer=mine, room=0, arriving=1),)
    large = simulation.submit(1, cpus=4, prefers="mine")
    simulation.run(20)
    simulation.making = ()
    simulation.run(PATIENCE_SECONDS + 15)
    assert large in simulation.started


# How long it is kept


def test_a_kept_worker_is_let_go_when_the_job_is_placed() -> None:
    simulation, large = kept_for_one()
    behind = simulation.submit(1)
    while large not in simulation.started:
        simulation.run(0.5)
    assert simulation.kept == {}
    assert behind not in simulation.started
    simulation.run(50)
    assert simulation.started[behind] >= simulation.started[large]


def test_a_kept_worker_is_let_go_and_filled_at_once_when_the_job_is_placed_elsewhere() -> None:
    simulation, large = kept_for_one(HOST, HOST)
    simulation.run(5)
    (kept,) = simulation.kept
    waiting = simulation.waiting - 1
    free = simulation.index[kept].cpus_free
    simulation.join(HOST)
    simulation.run()
    assert simulation.placed[large] == THIRD
    assert simulation.kept == {}
    assert waiting >= free > 0
    assert simulation.index[kept].cpus_free == 0


def test_a_kept_worker_is_let_go_and_filled_at_once_when_the_job_is_cancelled() -> None:
    simulation, large = kept_for_one()
    assert simulation.index[FIRST].cpus_free > 0
    simulation.cancel(large)
    simulation.run()
    assert simulation.kept == {}
    assert simulation.index[FIRST].cpus_free == 0
    assert simulation.fairness.next_at() is None


def test_a_job_of_the_same_needs_that_is_cancelled_behind_the_first_changes_nothing() -> None:
    simulation, large = kept_for_one()
    other = simulation.submit(1, cpus=4)
    simulation.run()
    simulation.cancel(other)
    simulation.run()
    assert simulation.kept == {FIRST: large}


def test_the_next_of_the_same_needs_waits_its_own_time_before_a_worker_is_kept() -> None:
    simulation, large = kept_for_one()
    following = simulation.submit(1, cpus=4)
    simulation.run(5)
    simulation.cancel(large)
    simulation.run(PATIENCE_SECONDS - 1)
    assert simulation.kept == {}
    simulation.run(1.5)
    assert simulation.kept == {FIRST: following}


def lose(simulation: Simulation, worker_id: WorkerId) -> None:
    simulation.lose(worker_id)


def drain(simulation: Simulation, worker_id: WorkerId) -> None:
    simulation.drain(worker_id)


@pytest.mark.parametrize("go", [lose, drain])
def test_a_kept_worker_that_goes_is_replaced_within_thirty_seconds(
    go: Callable[[Simulation, WorkerId], None],
) -> None:
    simulation, large = kept_for_one(HOST, HOST)
    (kept,) = simulation.kept
    go(simulation, kept)
    simulation.run()
    assert simulation.kept == {}
    simulation.run(PATIENCE_SECONDS)
    assert large in simulation.started or list(simulation.kept.values()) == [large]
    simulation.run(10)
    assert large in simulation.started
    assert simulation.placed[large] != kept
    assert simulation.kept == {}


def test_a_worker_that_comes_later_is_kept_if_there_was_none() -> None:
    simulation, large = kept_for_one()
    simulation.lose(FIRST)
    simulation.making = (ProviderView(name="local", offer=HOST, room=0, arriving=1),)
    simulation.run(100)
    simulation.join(offer(cpus=4, slots=1))
    simulation.run()
    assert simulation.placed[large] == SECOND


def test_a_second_worker_is_kept_when_the_first_holds_an_endless_job() -> None:
    one, other = offer(slots=8, labels={"is": "one"}), offer(slots=8, labels={"is": "other"})
    simulation = Simulation(one, other)
    simulation.submit(FOR_EVER, requires={"is": "one"})
    simulation.trickle(2, 8, requires={"is": "other"})
    simulation.run(20)
    large = simulation.submit(1, cpus=4)
    simulation.run(2 + PATIENCE_SECONDS)
    assert simulation.kept == {FIRST: large}
    simulation.run(PATIENCE_SECONDS + 1)
    assert simulation.kept == {FIRST: large, SECOND: large}
    simulation.run(8)
    assert simulation.placed[large] == SECOND
    assert simulation.kept == {}


def test_no_second_worker_is_kept_for_a_job_that_nobody_overtakes_any_more() -> None:
    one, other = offer(slots=8, labels={"is": "one"}), offer(slots=8, labels={"is": "other"})
    simulation = Simulation(one, other)
    simulation.submit(FOR_EVER, requires={"is": "one"})
    simulation.submit(FOR_EVER, requires={"is": "other"})
    simulation.trickle(2, 8, until=40)
    simulation.run(20)
    large = simulation.submit(1, cpus=4)
    simulation.run(2 + PATIENCE_SECONDS)
    assert list(simulation.kept.values()) == [large]
    simulation.run(20 * PATIENCE_SECONDS)
    assert list(simulation.kept.values()) == [large]


# What it costs


def test_nothing_is_left_of_jobs_that_waited_and_were_cancelled() -> None:
    simulation = Simulation(HOST)
    for _ in range(8):
        simulation.submit(FOR_EVER, cpus=0.5)
    simulation.run()
    for _ in range(2_000):
        waits = simulation.submit(1, cpus=4)
        simulation.run()
        simulation.cancel(waits)
    fairness = simulation.fairness
    assert fairness._watches == {}
    assert sum(map(len, fairness._passable.values())) < 200


def test_nothing_is_left_of_jobs_each_of_which_was_more_urgent_than_all_before() -> None:
    simulation = Simulation(offer(cpus=1))
    for priority in range(2_000):
        simulation.submit(1, priority=priority)
        simulation.run(0.5)
    assert sum(map(len, simulation.fairness._passable.values())) < 200


def test_nothing_is_left_of_jobs_that_were_overtaken() -> None:
    simulation = Simulation(HOST)
    simulation.trickle(2.6, 10)
    for _ in range(20):
        simulation.submit(1, cpus=4)
        simulation.run(40)
    simulation.run(1_000)
    fairness = simulation.fairness
    assert len(fairness._watches) <= 1
    assert sum(map(len, fairness._passable.values())) <= 2
    assert len(fairness._due) <= 1
    assert simulation.kept == {}


def churn(simulation: Simulation, **fields: Any) -> None:
    """Let so many jobs wait and be cancelled, at one instant, that their notes are gathered."""
    for _ in range(500):
        waits = simulation.submit(1, **fields)
        simulation.run()
        simulation.cancel(waits)


def test_a_job_that_waits_while_notes_are_gathered_is_still_seen_to_be_overtaken() -> None:
    simulation = crowded()
    large = simulation.submit(1, cpus=4)
    simulation.run()
    churn(simulation, cpus=3)
    assert simulation.kept == {}
    simulation.run(PATIENCE_SECONDS + 15)
    assert large in simulation.started


def test_gathered_notes_are_of_jobs_that_could_run_there() -> None:
    mine, other = offer(slots=8, labels={"is": "mine"}), offer(slots=8, labels={"is": "other"})
    simulation = Simulation(mine, other)
    simulation.submit(FOR_EVER, requires={"is": "mine"})
    simulation.submit(1, cpus=4, requires={"is": "other"})
    simulation.run()
    waits = simulation.submit(1, cpus=4, requires={"is": "mine"})
    simulation.run()
    churn(simulation, cpus=3, requires={"is": "other"})
    simulation.trickle(1, 1, requires={"is": "other"})
    simulation.run(100)
    assert waits not in simulation.started
    assert simulation.kept == {}


def test_a_job_that_is_considered_often_is_noted_once() -> None:
    simulation = Simulation(HOST)
    simulation.submit(FOR_EVER, cpus=1)
    simulation.run()
    simulation.submit(1, cpus=4)
    for _ in range(50):
        simulation.reconsider()
        simulation.run()
    assert sum(map(len, simulation.fairness._passable.values())) == 1
