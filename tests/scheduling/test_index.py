from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hodei_core.ids import WorkerId
from hodei_core.resources import Resources
from hodei_core.scheduling.backlog import Key
from hodei_core.scheduling.candidates import Candidate, Ring
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.index import WorkerIndex
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.scheduler import SAMPLE
from hodei_core.workers import Offer
from tests.scheduling.helpers import needs, offer

GIB = 1024**3
OFFERS = [
    offer(cpus=2, slots=2),
    offer(cpus=4, memory=4 * GIB, slots=3),
    offer("docker", cpus=1, memory=GIB, slots=1, image="debian"),
    offer(cpus=0.3, slots=3, labels={"gpu": "yes"}),
]
NEEDS = [
    needs(cpus=0),
    needs(cpus=0.1),
    needs(cpus=1),
    needs(cpus=2, memory=GIB),
    needs(cpus=1, memory=3 * GIB),
    needs(cpus=0.5, image="debian"),
    needs(cpus=0.1, requires={"gpu": "yes"}),
    needs(cpus=1, provider="local"),
    needs(cpus=64),
]
KEYS = [(-1, 9), (0, 3), (0, 7)]
FIRST = WorkerId("worker-0")


def filled(*groups: tuple[int, Offer]) -> WorkerIndex:
    index = WorkerIndex()
    for count, has in groups:
        for _ in range(count):
            index.add(WorkerId(f"worker-{len(index)}"), has)
    return index


def found(index: WorkerIndex, wants: Needs, most: int = SAMPLE) -> list[str]:
    return [candidate.id for candidate in index.candidates(wants, most)]


class IndexMachine(RuleBasedStateMachine):
    """The index against a list of workers that is scanned."""

    def __init__(self) -> None:
        super().__init__()
        self.index = WorkerIndex()
        self.offers: dict[WorkerId, Offer] = {}
        self.taking: set[WorkerId] = set()
        self.reserved: list[tuple[WorkerId, Resources]] = []
        self.kept: dict[WorkerId, Key] = {}
        self.ran: dict[str, list[WorkerId]] = {}
        self.number = 0

    def fits(self, worker_id: WorkerId, resources: Resources) -> bool:
        has = self.offers[worker_id]
        held = [r for held_by, r in self.reserved if held_by == worker_id]
        cpus = round(sum(r.cpus for r in held) + resources.cpus, 6)
        memory = sum(r.memory or 0 for r in held) + (resources.memory or 0)
        limited = has.resources.memory is not None and resources.memory is not None
        return (
            worker_id in self.taking
            and len(held) < has.slots
            and cpus <= has.resources.cpus
            and not (limited and memory > (has.resources.memory or 0))
        )

    @rule(has=st.sampled_from(OFFERS))
    def add(self, has: Offer) -> None:
        self.number += 1
        worker_id = WorkerId(f"worker-{self.number}")
        self.index.add(worker_id, has)
        self.offers[worker_id] = has
        self.taking.add(worker_id)

    @precondition(lambda self: self.offers)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.offers)))
        self.index.remove(worker_id)
        self.index.remove(worker_id)
        del self.offers[worker_id]
        self.kept.pop(worker_id, None)
        self.taking.discard(worker_id)
        self.reserved = [entry for entry in self.reserved if entry[0] != worker_id]

    @precondition(lambda self: self.offers)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.offers)))
        self.index.stop(worker_id)
        self.kept.pop(worker_id, None)
        self.taking.discard(worker_id)

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def keep(self, data: st.DataObject, key: Key) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.offers)))
        self.index.keep(worker_id, key)
        self.kept[worker_id] = key

    @precondition(lambda self: self.offers)
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.offers)))
        self.index.let_go(worker_id)
        self.kept.pop(worker_id, None)

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), wants=st.sampled_from(NEEDS), name=st.sampled_from([None, "a", "b"]))
    def reserve(self, data: st.DataObject, wants: Needs, name: str | None) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.offers)))
        if self.fits(worker_id, wants.resources):
            self.index.reserve(worker_id, wants.resources, name)
            self.reserved.append((worker_id, wants.resources))
            if name is not None:
                others = [other for other in self.ran.get(name, []) if other != worker_id]
                self.ran[name] = [*others, worker_id][-8:]
        else:
            with pytest.raises(ValueError, match="has no room"):
                self.index.reserve(worker_id, wants.resources)

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        entry = self.reserved.pop(data.draw(st.integers(0, len(self.reserved) - 1)))
        self.index.release(*entry)

    @invariant()
    def the_same_workers_fit(self) -> None:
        for wants in NEEDS:
            able = {
                worker_id
                for worker_id, has in self.offers.items()
                if mismatch(wants, has) is None and self.fits(worker_id, wants.resources)
            }
            expected = able - self.kept.keys()
            chosen = found(self.index, wants, most=1_000)
            assert len(chosen) == len(set(chosen))
            assert set(chosen) == expected
            sample = found(self.index, wants, most=2)
            assert len(sample) == min(2, len(expected))
            assert set(sample) <= expected
            for key in KEYS:
                in_time = {one for one, until in self.kept.items() if key <= until}
                keepers = [worker.id for worker in self.index.keepers(wants, key)]
                assert len(keepers) == len(set(keepers))
                assert set(keepers) == able & in_time
            for name in ("a", "b"):
                ran = [one for one in reversed(self.ran.get(name, [])) if one in expected]
                assert [worker.id for worker in self.index.namesakes(name, wants)] == ran

    @invariant()
    def the_same_workers_are_kept(self) -> None:
        assert self.index.keeps == bool(self.kept)
        for worker_id in self.offers:
            assert self.index.kept(worker_id) == self.kept.get(worker_id)

    @invariant()
    def there_is_room_where_a_slot_is_free(self) -> None:
        free = any(worker.taking and worker.slots_free for worker in self.index.workers())
        assert self.index.has_room == (free or bool(self.kept))

    @invariant()
    def the_same_offers_match(self) -> None:
        for wants in NEEDS:
            matching = self.index.matching(wants)
            assert len(matching) == len(set(matching))
            assert set(matching) == {
                has for has in self.offers.values() if mismatch(wants, has) is None
            }

    @invariant()
    def every_worker_knows_its_slots(self) -> None:
        assert [worker.id for worker in self.index.workers()] == list(self.offers)
        assert len(self.index) == len(self.offers)
        for worker_id, has in self.offers.items():
            worker = self.index[worker_id]
            used = sum(held_by == worker_id for held_by, _ in self.reserved)
            assert (worker.slots_used, worker.slots_free) == (used, has.slots - used)
            assert worker.load == used / has.slots


TestIndexMachine: Any = IndexMachine.TestCase
TestIndexMachine.settings = settings(
    derandomize=True, deadline=None, max_examples=40, stateful_step_count=25
)


def test_a_sample_is_bounded() -> None:
    index = filled((100, offer(slots=2)))
    assert len(set(found(index, needs()))) == SAMPLE == 32


def test_a_small_fleet_is_shown_whole() -> None:
    index = filled((20, offer()), (12, offer("docker")))
    assert len(set(found(index, needs()))) == 32


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: filled((100, offer())), id="one-offer"),
        pytest.param(lambda: filled((50, offer()), (50, offer("docker"))), id="two-offers"),
        pytest.param(lambda: filled((40, offer()), (1, offer("docker"))), id="a-lonely-one"),
        pytest.param(
            lambda: filled(*[(1, offer(labels={"n": str(n)})) for n in range(100)]), id="all-apart"
        ),
    ],
)
def test_the_rotation_reaches_every_worker(make: Callable[[], WorkerIndex]) -> None:
    index = make()
    seen: set[str] = set()
    for _ in range(20):
        sample = found(index, needs())
        assert len(set(sample)) == SAMPLE
        seen.update(sample)
    assert len(seen) == len(index)


def test_the_rotation_reaches_workers_that_have_less_left() -> None:
    index = filled((80, offer(cpus=4, slots=4)))
    for number in range(40):
        index.reserve(WorkerId(f"worker-{number}"), Resources(cpus=1))
    seen: set[str] = set()
    for _ in range(10):
        seen.update(found(index, needs()))
    assert len(seen) == 80


def test_all_of_a_fleet_is_filled_by_taking_the_first_candidate() -> None:
    index = filled((50, offer(cpus=2, slots=2)), (50, offer("docker", cpus=2, slots=2)))
    for _ in range(200):
        index.reserve(WorkerId(found(index, needs())[0]), Resources(cpus=1))
    assert found(index, needs()) == []
    assert all(worker.slots_free == 0 for worker in index.workers())


def test_shares_of_a_cpu_add_up() -> None:
    index = filled((1, offer(cpus=1, slots=10)))
    for _ in range(10):
        index.reserve(WorkerId("worker-0"), Resources(cpus=0.1))
    assert index[WorkerId("worker-0")].cpus_free == 0
    for _ in range(10):
        index.release(WorkerId("worker-0"), Resources(cpus=0.1))
    assert index[WorkerId("worker-0")].cpus_free == 1


def test_a_stopped_worker_keeps_what_it_runs_and_is_not_handed_out_again() -> None:
    index = filled((1, offer(slots=2)))
    worker_id = WorkerId("worker-0")
    index.reserve(worker_id, Resources())
    index.stop(worker_id)
    assert found(index, needs()) == []
    assert index[worker_id].slots_used == 1
    index.release(worker_id, Resources())
    assert found(index, needs()) == []
    assert not index[worker_id].fits(Resources())


def keepers(index: WorkerIndex, wants: Needs, key: Key) -> list[str]:
    return [worker.id for worker in index.keepers(wants, key)]


def namesakes(index: WorkerIndex, name: str, wants: Needs | None = None) -> list[str]:
    return [worker.id for worker in index.namesakes(name, wants or needs())]


def test_a_kept_worker_is_for_jobs_up_to_a_place_and_for_no_others() -> None:
    index = filled((2, offer(slots=2)))
    index.keep(FIRST, (0, 5))
    assert found(index, needs()) == ["worker-1"]
    assert keepers(index, needs(), (0, 5)) == ["worker-0"]
    assert keepers(index, needs(), (0, 4)) == ["worker-0"]
    assert keepers(index, needs(), (-1, 99)) == ["worker-0"]
    assert keepers(index, needs(), (0, 6)) == []
    assert keepers(index, needs(), (1, 1)) == []


def test_a_kept_worker_is_shown_to_no_job_that_does_not_fit() -> None:
    index = filled((1, offer(cpus=4, slots=2)))
    index.keep(FIRST, (0, 5))
    index.reserve(FIRST, Resources(cpus=1))
    assert keepers(index, needs(cpus=4), (0, 1)) == []
    assert keepers(index, needs(cpus=3), (0, 1)) == ["worker-0"]
    assert keepers(index, needs(provider="other"), (0, 1)) == []
    index.reserve(FIRST, Resources(cpus=1))
    assert keepers(index, needs(), (0, 1)) == []


def test_a_kept_worker_that_is_let_go_is_handed_out_with_what_it_has_left_by_then() -> None:
    index = filled((1, offer(cpus=4, slots=8)))
    index.reserve(FIRST, Resources(cpus=2))
    index.keep(FIRST, (0, 5))
    index.reserve(FIRST, Resources(cpus=1))
    index.release(FIRST, Resources(cpus=2))
    index.let_go(FIRST)
    assert found(index, needs(cpus=3)) == ["worker-0"]
    assert found(index, needs(cpus=4)) == []
    assert keepers(index, needs(), (0, 1)) == []
    index.let_go(FIRST)
    assert found(index, needs(cpus=3)) == ["worker-0"]


def test_a_worker_that_is_kept_for_another_is_kept_for_that_only() -> None:
    index = filled((1, offer()))
    index.keep(FIRST, (0, 9))
    index.keep(FIRST, (0, 5))
    assert index.kept(FIRST) == (0, 5)
    assert keepers(index, needs(), (0, 9)) == []
    index.let_go(FIRST)
    assert not index.keeps


@pytest.mark.parametrize("go", [WorkerIndex.stop, WorkerIndex.remove])
def test_a_worker_that_goes_is_kept_no_longer(go: Callable[[WorkerIndex, WorkerId], None]) -> None:
    index = filled((1, offer()))
    index.keep(FIRST, (0, 5))
    go(index, FIRST)
    assert index.kept(FIRST) is None
    assert not index.keeps
    assert keepers(index, needs(), (0, 1)) == []
    index.let_go(FIRST)
    assert found(index, needs()) == []


def test_workers_that_ran_a_name_are_found_the_last_one_first() -> None:
    index = filled((3, offer(slots=9)))
    for number in (0, 1, 2, 0):
        index.reserve(WorkerId(f"worker-{number}"), Resources(cpus=0), "build")
    assert namesakes(index, "build") == ["worker-0", "worker-2", "worker-1"]
    assert namesakes(index, "test") == []


def test_of_workers_that_ran_a_name_only_those_that_have_room_are_found() -> None:
    index = filled((1, offer()), (1, offer(slots=2)), (3, offer(slots=9)), (1, offer("far")))
    for worker in index.workers():
        index.reserve(worker.id, Resources(cpus=1), "build")
    index.keep(WorkerId("worker-2"), (0, 5))
    index.stop(WorkerId("worker-3"))
    index.remove(WorkerId("worker-4"))
    assert namesakes(index, "build") == ["worker-1"]
    assert namesakes(index, "build", needs(cpus=4)) == []
    assert namesakes(index, "build", needs(provider="other")) == []


def test_jobs_without_a_name_are_not_remembered() -> None:
    index = filled((1, offer()))
    index.reserve(FIRST, Resources())
    assert index[FIRST].names == ()
    assert index._namesakes == {}


def test_a_worker_remembers_the_last_sixteen_names_each_once() -> None:
    index = filled((1, offer(slots=99)))
    for number in [*range(30), 20, 20]:
        index.reserve(FIRST, Resources(cpus=0), f"name-{number}")
    expected = [*range(14, 20), *range(21, 30), 20]
    assert index[FIRST].names == tuple(f"name-{number}" for number in expected)


def test_of_each_name_the_last_eight_workers_are_remembered() -> None:
    index = filled((20, offer(slots=9)))
    for number in [*range(20), 15]:
        index.reserve(WorkerId(f"worker-{number}"), Resources(), "build")
    expected = [15, 19, 18, 17, 16, 14, 13, 12]
    assert namesakes(index, "build") == [f"worker-{number}" for number in expected]


def test_names_that_come_once_are_not_remembered_for_ever() -> None:
    index = filled((2, offer(slots=9)))
    index.reserve(WorkerId("worker-1"), Resources(), "often")
    for number in range(5_000):
        index.reserve(FIRST, Resources(), f"name-{number}")
        index.reserve(FIRST, Resources(), "often")
        index.release(FIRST, Resources())
        index.release(FIRST, Resources())
    assert len(index._namesakes) <= 1_024
    assert namesakes(index, "name-4999") == ["worker-0"]
    assert namesakes(index, "often") == ["worker-0", "worker-1"]


def test_each_use_is_later_than_all_before_on_whichever_worker() -> None:
    index = filled((2, offer(slots=9)))
    uses = []
    for number in (0, 1, 1, 0):
        worker_id = WorkerId(f"worker-{number}")
        index.reserve(worker_id, Resources(cpus=0))
        uses.append(index[worker_id].last_used)
    assert uses == sorted(set(uses))
    assert uses[0] > 0


def test_a_release_by_a_worker_that_is_gone_is_no_error() -> None:
    index = filled((1, offer()))
    index.reserve(WorkerId("worker-0"), Resources())
    index.remove(WorkerId("worker-0"))
    index.release(WorkerId("worker-0"), Resources())
    assert len(index) == 0


def test_what_a_search_looks_at_does_not_grow_with_the_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked = 0
    take = Ring.take

    def counted(ring: Ring, most: int) -> list[Candidate]:
        nonlocal looked
        looked += 1
        return take(ring, most)

    monkeypatch.setattr(Ring, "take", counted)
    costs = []
    for size in (40, 4_000):
        index = filled((size, offer(slots=2)))
        looked = 0
        for _ in range(30):
            index.reserve(WorkerId(found(index, needs())[-1]), Resources())
        costs.append(looked)
    assert costs[1] <= costs[0]


def test_needs_that_come_once_are_not_remembered_for_ever() -> None:
    index = filled((1, offer(cpus=10_000)))
    for number in range(20_000):
        index.matching(needs(cpus=number / 10))
    assert len(index._matching) <= 2_000
    assert len(index.matching(needs())) == 1


def test_nothing_is_left_of_workers_that_are_gone() -> None:
    index = WorkerIndex()
    for number in range(1_000):
        worker_id = WorkerId(f"worker-{number}")
        index.add(worker_id, offer(labels={"n": str(number)}, slots=2))
        index.reserve(worker_id, Resources())
        index.matching(needs())
        index.remove(worker_id)
        index.add(worker_id, offer())
        index.keep(worker_id, (0, number))
        index.remove(worker_id)
    assert (len(index), index._offers, index._groups, index._matching) == (0, {}, {}, {})
    assert not index.keeps
