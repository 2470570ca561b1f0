from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hodei_core.jobs import Job
from hodei_core.scheduling import backlog as backlog_module
from hodei_core.scheduling.backlog import WIDEST, WINDOW, Backlog, NeedsClass, key_of
from hodei_core.scheduling.decisions import Wait
from hodei_core.scheduling.needs import Needs
from hodei_core.states import WaitingFor
from hodei_core.workers import Offer
from tests.scheduling.helpers import job, offer

WAIT = Wait(WaitingFor.CAPACITY, ("full",))
HERE, THERE = offer("here"), offer("there")
KINDS = (None, "a", "b")


def kind_of(kind: str | None) -> Needs:
    return Needs.of(job(0, kind=kind).spec)


def taken(backlog: Backlog) -> list[int]:
    """Take all that is considered; return the numbers in order."""
    numbers = []
    while (of := backlog.head()) is not None:
        numbers.append(backlog.take(of).seq)
    return numbers


def head(backlog: Backlog) -> NeedsClass:
    of = backlog.head()
    assert of is not None
    return of


def filled(*jobs: Job) -> Backlog:
    backlog = Backlog()
    for each in jobs:
        backlog.add(each)
    return backlog


class BacklogMachine(RuleBasedStateMachine):
    """The backlog, refilled from a store as a dispatcher does, against a sorted list."""

    window = 4

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(backlog_module, "WINDOW", self.window)
        self.backlog = Backlog()
        self.stored: dict[int, Job] = {}
        self.taken: dict[int, Job] = {}
        self.parked: dict[Needs, set[Offer]] = {}
        self.wanting: set[Needs] = set()
        self.seq = 0

    def teardown(self) -> None:
        self.patch.undo()

    def peek(self, needs: Needs) -> list[Job]:
        jobs = [each for each in self.stored.values() if Needs.of(each.spec) == needs]
        return sorted(jobs, key=place)[: self.backlog.limit_of(needs)]

    def refill(self) -> None:
        for needs in self.backlog.starving():
            self.backlog.refill(needs, self.peek(needs))

    def forget_parks_of_empty_classes(self) -> None:
        live = {Needs.of(each.spec) for each in self.stored.values()}
        self.parked = {needs: offers for needs, offers in self.parked.items() if needs in live}

    def expected(self) -> Job | None:
        jobs = [each for each in self.stored.values() if Needs.of(each.spec) not in self.parked]
        return min(jobs, key=place, default=None)

    @rule(kind=st.sampled_from(KINDS), priority=st.integers(0, 2), count=st.integers(1, 6))
    def submit(self, kind: str | None, priority: int, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            new = job(self.seq, priority=priority, kind=kind)
            self.stored[new.seq] = new
            self.backlog.add(new)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        self.backlog.add(self.stored[data.draw(st.sampled_from(sorted(self.stored)))])

    @rule()
    def take(self) -> None:
        self.refill()
        of = self.backlog.head()
        expected = self.expected()
        if expected is None:
            assert of is None
            return
        assert of is not None
        assert of.needs == Needs.of(expected.spec)
        assert self.backlog.take(of).id == expected.id
        self.taken[expected.seq] = self.stored.pop(expected.seq)
        self.forget_parks_of_empty_classes()

    @rule(kind=st.sampled_from(KINDS))
    def widen(self, kind: str | None) -> None:
        of = self.backlog.get(kind_of(kind))
        if of is not None:
            before, widened = len(of.window), self.backlog.widen(of)
            assert widened == (not of.complete or of.needs in self.backlog.starving())
            self.refill()
            stored = sum(Needs.of(each.spec) == of.needs for each in self.stored.values())
            assert len(of.window) >= min(before, stored)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        back = self.taken.pop(data.draw(st.sampled_from(sorted(self.taken))))
        self.stored[back.seq] = back
        self.backlog.add(back)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        gone = self.stored.pop(data.draw(st.sampled_from(sorted(self.stored))))
        self.backlog.discard(gone)
        self.backlog.discard(gone)
        self.forget_parks_of_empty_classes()

    @rule(offers=st.sets(st.sampled_from([HERE, THERE])), wanting=st.booleans())
    def park(self, offers: set[Offer], wanting: bool) -> None:
        self.refill()
        of = self.backlog.head()
        if of is not None:
            self.backlog.park(of, WAIT, offers, wanting=wanting)
            self.parked[of.needs] = offers
            self.wanting.discard(of.needs)
            if wanting:
                self.wanting.add(of.needs)

    @rule(kind=st.sampled_from(KINDS))
    def unpark(self, kind: str | None) -> None:
        of = self.backlog.get(kind_of(kind))
        if of is not None and of.parked is not None:
            self.backlog.unpark(of)
            del self.parked[of.needs]

    @rule(freed=st.sampled_from([HERE, THERE]))
    def wake(self, freed: Offer) -> None:
        self.backlog.wake(freed)
        self.parked = {n: offers for n, offers in self.parked.items() if freed not in offers}

    @rule()
    def wake_all(self) -> None:
        self.backlog.wake_all()
        self.parked.clear()

    @invariant()
    def the_head_is_the_first_of_all_that_is_considered(self) -> None:
        of = self.backlog.head()
        expected = self.expected()
        if of is not None:
            assert expected is not None
            assert of.window[0].id == expected.id
        elif expected is not None:
            assert self.backlog.starving()

    @invariant()
    def what_is_known_of_each_class_is_true(self) -> None:
        assert bool(self.backlog) == bool(self.stored) or self.backlog.starving()
        for kind in KINDS:
            needs = kind_of(kind)
            of = self.backlog.get(needs)
            why = None if of is None else of.parked
            if any(Needs.of(each.spec) == needs for each in self.stored.values()):
                assert (why is WAIT) == (needs in self.parked)
            else:
                assert why is None or needs in self.backlog.starving()

    @invariant()
    def the_classes_that_want_a_worker_are_those_parked_so_in_the_order_of_their_heads(
        self,
    ) -> None:
        starving = set(self.backlog.starving())
        wanting = [of.needs for of in self.backlog.wanting()]
        expected = [
            Needs.of(each.spec)
            for each in sorted(self.stored.values(), key=place)
            if Needs.of(each.spec) in (self.parked.keys() & self.wanting) - starving
        ]
        assert wanting == list(dict.fromkeys(expected))

    @invariant()
    def each_class_that_has_jobs_is_found(self) -> None:
        live = {Needs.of(each.spec) for each in self.stored.values()}
        known = {of.needs for of in self.backlog.classes()}
        assert live <= known <= live | set(self.backlog.starving())
        for kind in KINDS:
            of = self.backlog.get(kind_of(kind))
            assert (of is not None) == (kind_of(kind) in known)

    @invariant()
    def the_view_is_bounded(self) -> None:
        for of in self.backlog._classes.values():
            assert len(of.window) <= of.limit
            assert [place(each) for each in of.window] == sorted({place(e) for e in of.window})


def place(each: Job) -> tuple[int, int]:
    return (-each.spec.priority, each.seq)


TestBacklogMachine: Any = BacklogMachine.TestCase
TestBacklogMachine.settings = settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=40
)


def test_higher_priorities_go_first_then_earlier_submissions_across_classes() -> None:
    backlog = filled(
        job(1), job(2, kind="a"), job(3, priority=5), job(4, priority=5, kind="a"), job(5)
    )
    assert taken(backlog) == [3, 4, 1, 2, 5]
    assert not backlog


def test_a_parked_class_holds_nobody_up() -> None:
    backlog = filled(*[job(seq, priority=9, kind="stuck") for seq in range(1, 200)], job(200))
    backlog.park(head(backlog), WAIT, (HERE,))
    assert taken(backlog) == [200]
    assert backlog


def test_a_parked_class_is_considered_again_when_an_offer_that_it_waits_for_has_room() -> None:
    backlog = filled(job(1, kind="a"), job(2, kind="b"))
    backlog.park(head(backlog), WAIT, (HERE, THERE))
    backlog.park(head(backlog), WAIT, (THERE,))
    backlog.wake(HERE)
    assert taken(backlog) == [1]
    backlog.wake(THERE)
    assert taken(backlog) == [2]


def test_a_class_that_waits_for_no_offer_is_considered_again_when_the_fleet_changes() -> None:
    backlog = filled(job(1))
    backlog.park(head(backlog), WAIT, ())
    backlog.wake(HERE)
    assert backlog.head() is None
    backlog.wake_all()
    assert taken(backlog) == [1]


def wanting(backlog: Backlog) -> list[int]:
    """Return the numbers of the first jobs of the classes that want a worker."""
    return [of.window[0].seq for of in backlog.wanting()]


def test_classes_that_want_a_worker_come_in_the_order_of_their_first_jobs() -> None:
    backlog = filled(job(1, kind="a"), job(2, kind="b"), job(3, kind="c"), job(4, kind="d"))
    for wants in (True, True, False, True):
        backlog.park(head(backlog), WAIT, (HERE,), wanting=wants)
    assert wanting(backlog) == [1, 2, 4]
    backlog.add(job(5, kind="d", priority=1))
    backlog.discard(job(1, kind="a"))
    assert wanting(backlog) == [5, 2]


def test_a_class_that_is_considered_again_wants_no_worker_until_it_is_parked_so_again() -> None:
    backlog = filled(job(1, kind="a"), job(2, kind="b"), job(3, kind="c"))
    for offers in ((HERE,), (THERE,), ()):
        backlog.park(head(backlog), WAIT, offers, wanting=True)
    backlog.wake(HERE)
    assert wanting(backlog) == [2, 3]
    backlog.unpark(backlog.wanting()[0])
    assert wanting(backlog) == [3]
    backlog.wake_all()
    assert wanting(backlog) == []
    backlog.park(head(backlog), WAIT, (HERE,))
    backlog.park(head(backlog), WAIT, (HERE,), wanting=True)
    assert wanting(backlog) == [2]


def test_a_class_that_is_unparked_is_considered_and_no_longer_waits_for_offers() -> None:
    backlog = filled(job(1, kind="a"), job(2, kind="b"))
    of = head(backlog)
    backlog.park(of, WAIT, (HERE, THERE), wanting=True)
    backlog.unpark(of)
    assert (of.parked, of.wanting) == (None, False)
    backlog.wake(HERE)
    assert head(backlog) is of
    assert taken(backlog) == [1, 2]


def test_a_class_that_wants_a_worker_and_ran_out_of_view_wants_it_again_when_refilled() -> None:
    first = [job(seq) for seq in range(1, WINDOW + 2)]
    backlog = filled(*first)
    backlog.park(head(backlog), WAIT, (HERE,), wanting=True)
    for each in first[:WINDOW]:
        backlog.discard(each)
    assert wanting(backlog) == []
    backlog.refill(kind_of(None), first[WINDOW:])
    assert wanting(backlog) == [WINDOW + 1]


def test_the_place_of_a_job_is_by_priority_and_then_by_number() -> None:
    jobs = [job(1), job(2, priority=-1), job(3, priority=5), job(4), job(5, priority=5)]
    assert [each.seq for each in sorted(jobs, key=key_of)] == [3, 5, 1, 4, 2]
    assert filled(job(7, priority=2), job(8, priority=3)).classes()[0].key == (-3, 8)


def test_it_is_told_when_the_first_job_of_a_class_has_gone_and_only_then() -> None:
    told: list[int] = []
    backlog = Backlog(told.append)
    for seq in range(1, 6):
        backlog.add(job(seq))
    number = head(backlog).number
    backlog.add(job(6, priority=1))
    backlog.discard(job(3))
    backlog.park(head(backlog), WAIT, (HERE,))
    backlog.wake_all()
    assert told == []
    backlog.take(head(backlog))
    assert told == [number]
    backlog.discard(job(1))
    assert told == [number] * 2
    backlog.refill(kind_of(None), [job(2), job(4), job(7)])
    assert told == [number] * 2
    backlog.refill(kind_of(None), [job(4)])
    assert told == [number] * 3
    backlog.take(head(backlog))
    assert told == [number] * 4
    assert not backlog


def test_a_class_that_comes_again_has_another_number() -> None:
    backlog = filled(job(1))
    number = head(backlog).number
    assert taken(backlog) == [1]
    assert backlog.add(job(2)).number != number


def test_why_a_job_waits_is_known_until_it_is_taken() -> None:
    backlog = filled(job(1), job(2))
    assert backlog.wait_of(kind_of(None)) is None
    backlog.park(head(backlog), WAIT, (HERE,))
    assert backlog.wait_of(kind_of(None)) is WAIT
    backlog.wake(HERE)
    assert backlog.wait_of(kind_of(None)) is WAIT
    backlog.take(head(backlog))
    assert backlog.wait_of(kind_of(None)) is None
    assert backlog.wait_of(kind_of("unknown")) is None


def test_a_job_that_joins_a_parked_class_waits_with_it() -> None:
    backlog = filled(job(1))
    backlog.park(head(backlog), WAIT, (HERE,))
    backlog.add(job(2, priority=9))
    assert backlog.head() is None
    backlog.wake(HERE)
    assert taken(backlog) == [2, 1]


def test_no_more_jobs_of_a_class_are_in_view_than_the_window() -> None:
    backlog = filled(*[job(seq) for seq in range(1, 10 * WINDOW)])
    assert len(head(backlog).window) == WINDOW


def test_more_of_a_class_comes_into_view_when_asked_for_until_all_of_it_or_the_most() -> None:
    jobs = [job(seq) for seq in range(1, 2 * WIDEST)]
    backlog = filled(*jobs)
    of, needs = head(backlog), kind_of(None)
    sizes = []
    while backlog.widen(of):
        assert backlog.starving() == [needs]
        backlog.refill(needs, jobs[: backlog.limit_of(needs)])
        sizes.append(len(of.window))
    assert sizes[:2] == [2 * WINDOW, 4 * WINDOW]
    assert (sizes[-1], backlog.starving()) == (WIDEST, [])
    assert not filled(job(1), job(2)).widen(of)


def test_a_class_that_ran_out_of_view_is_as_wide_again_as_others() -> None:
    jobs = [job(seq) for seq in range(1, 4 * WINDOW)]
    backlog, needs = filled(*jobs), kind_of(None)
    assert backlog.widen(head(backlog))
    assert backlog.limit_of(needs) == 2 * WINDOW
    backlog.refill(needs, jobs[: 2 * WINDOW])
    taken(backlog)
    assert (backlog.starving(), backlog.limit_of(needs)) == ([needs], WINDOW)


def test_a_class_that_ran_out_of_view_starves_and_is_refilled_in_order() -> None:
    jobs = [job(seq) for seq in range(1, 2 * WINDOW + 11)]
    backlog = filled(*jobs)
    order: list[int] = []
    while backlog:
        order += taken(backlog)
        for needs in backlog.starving():
            backlog.refill(needs, jobs[len(order) : len(order) + WINDOW])
    assert order == [each.seq for each in jobs]


def test_nobody_overtakes_a_class_that_ran_out_of_view() -> None:
    first = [job(seq, kind="a") for seq in range(1, WINDOW + 2)]
    backlog = filled(*first, job(WINDOW + 2, kind="b"))
    assert taken(backlog) == [each.seq for each in first[:WINDOW]]
    backlog.refill(kind_of("a"), first[WINDOW:])
    assert taken(backlog) == [WINDOW + 1, WINDOW + 2]


def test_a_parked_class_that_ran_out_of_view_holds_nobody_up() -> None:
    first = [job(seq, kind="a") for seq in range(1, WINDOW + 2)]
    backlog = filled(*first, job(WINDOW + 2, kind="b"))
    backlog.park(head(backlog), WAIT, (HERE,))
    for each in first[:WINDOW]:
        backlog.discard(each)
    assert backlog.starving() == [kind_of("a")]
    assert taken(backlog) == [WINDOW + 2]
    backlog.refill(kind_of("a"), first[WINDOW:])
    assert backlog.head() is None
    backlog.wake(HERE)
    assert taken(backlog) == [WINDOW + 1]


def test_a_refill_leaves_out_what_is_on_its_way_out() -> None:
    backlog = Backlog()
    backlog.refill(kind_of(None), [job(1), job(2), job(3)], leave_out=[job(2).id])
    assert taken(backlog) == [1, 3]


def test_a_refill_with_nothing_forgets_the_class() -> None:
    backlog = Backlog()
    backlog.refill(kind_of(None), [])
    assert not backlog
    assert backlog.starving() == []


def test_a_job_that_is_in_view_is_not_taken_twice() -> None:
    backlog = Backlog()
    backlog.refill(kind_of(None), [job(1), job(2), job(3)])
    for seq in (1, 2, 3):
        backlog.add(job(seq))
    assert taken(backlog) == [1, 2, 3]


def test_a_discarded_job_is_not_taken() -> None:
    backlog = filled(job(1), job(2), job(3))
    backlog.discard(job(2))
    backlog.discard(job(99))
    backlog.discard(job(1, kind="unknown"))
    assert taken(backlog) == [1, 3]


def test_the_heads_do_not_pile_up_behind_one_that_is_always_overtaken() -> None:
    backlog = filled(job(1, kind="low"))
    for seq in range(2, 5_000):
        backlog.add(job(seq, kind="low", priority=1))
        assert taken_one(backlog) == seq
    assert len(backlog._heads) < 200
    assert taken(backlog) == [1]


def taken_one(backlog: Backlog) -> int:
    return backlog.take(head(backlog)).seq


def test_nothing_is_left_of_classes_that_are_gone() -> None:
    backlog = Backlog()
    for seq in range(1, 5_000):
        backlog.add(job(seq, kind=f"kind-{seq}"))
        of = head(backlog)
        if seq % 2:
            backlog.park(of, WAIT, (HERE,), wanting=True)
            backlog.discard(job(seq, kind=f"kind-{seq}"))
        else:
            backlog.take(of)
    assert not backlog
    assert backlog._listed_at == {}
    assert backlog._wanting == {}
    assert backlog._numbered == {}
    assert len(backlog._heads) < 200
