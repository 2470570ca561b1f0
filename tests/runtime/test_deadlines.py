from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from typing_extensions import override

from hodei_core.runtime.deadlines import Deadlines
from hodei_core.testing import FakeClock


class WatchedClock(FakeClock):
    """Counts how often somebody goes to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float] = []

    @override
    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await super().sleep(seconds)


class Bench:
    """Deadlines that note what they called."""

    def __init__(self) -> None:
        self.clock = WatchedClock()
        self.deadlines = Deadlines(self.clock)
        self.called: list[str] = []

    def note(self, name: str) -> Callable[[], None]:
        return lambda: self.called.append(name)

    async def advance(self, seconds: float) -> None:
        """Let time pass; return when all that follows has happened."""
        await anyio.wait_all_tasks_blocked()
        self.clock.advance(seconds)
        await anyio.wait_all_tasks_blocked()


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.deadlines.run)
            await anyio.wait_all_tasks_blocked()
            yield bench
            tasks.cancel_scope.cancel()


async def test_a_deadline_is_met_when_its_time_has_come_and_not_before() -> None:
    async with running() as bench:
        bench.deadlines.after(5, bench.note("five"))
        await bench.advance(4.75)
        assert bench.called == []
        await bench.advance(0.25)
        assert bench.called == ["five"]
        await bench.advance(100)
        assert bench.called == ["five"]


async def test_deadlines_are_met_in_the_order_of_time_then_of_their_setting() -> None:
    async with running() as bench:
        for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("a again", 1), ("c again", 3)):
            bench.deadlines.after(seconds, bench.note(name))
        await bench.advance(10)
        assert bench.called == ["a", "a again", "b", "c", "c again"]


async def test_a_deadline_may_be_set_for_an_instant_of_the_clock() -> None:
    async with running() as bench:
        await bench.advance(3)
        bench.deadlines.at(5, bench.note("at"))
        bench.deadlines.after(1, bench.note("after"))
        await bench.advance(1)
        assert bench.called == ["after"]
        await bench.advance(1)
        assert bench.called == ["after", "at"]


async def test_a_deadline_in_the_past_is_met_at_once() -> None:
    async with running() as bench:
        await bench.advance(3)
        bench.deadlines.at(1, bench.note("past"))
        await anyio.wait_all_tasks_blocked()
        assert bench.called == ["past"]


async def test_a_new_earlier_deadline_wakes_the_sleeper() -> None:
    async with running() as bench:
        bench.deadlines.after(100, bench.note("late"))
        await anyio.wait_all_tasks_blocked()
        bench.deadlines.after(1, bench.note("early"))
        await bench.advance(1)
        assert bench.called == ["early"]


async def test_a_later_deadline_lets_the_sleeper_sleep() -> None:
    async with running() as bench:
        bench.deadlines.after(1, bench.note("early"))
        await anyio.wait_all_tasks_blocked()
        for _ in range(50):
            bench.deadlines.after(2, bench.note("late"))
        await anyio.wait_all_tasks_blocked()
        assert bench.clock.sleeps == [1]


async def test_without_deadlines_nobody_looks_at_the_clock() -> None:
    async with running() as bench:
        await bench.advance(1_000)
        assert bench.clock.sleeps == []
        bench.deadlines.after(1, bench.note("one"))
        await bench.advance(1)
        assert bench.called == ["one"]
        assert len(bench.clock.sleeps) == 1


async def test_a_cancelled_deadline_is_not_met() -> None:
    async with running() as bench:
        gone = bench.deadlines.after(1, bench.note("gone"))
        bench.deadlines.after(2, bench.note("kept"))
        gone.cancel()
        gone.cancel()
        await bench.advance(5)
        assert bench.called == ["kept"]


async def test_the_length_counts_what_is_still_to_come() -> None:
    async with running() as bench:
        first = bench.deadlines.after(1, bench.note("first"))
        bench.deadlines.after(2, bench.note("second"))
        bench.deadlines.after(3, bench.note("third"))
        assert len(bench.deadlines) == 3
        first.cancel()
        first.cancel()
        assert len(bench.deadlines) == 2
        await bench.advance(2)
        assert len(bench.deadlines) == 1


async def test_cancelling_a_deadline_that_was_met_changes_nothing() -> None:
    async with running() as bench:
        met = bench.deadlines.after(1, bench.note("met"))
        bench.deadlines.after(9, bench.note("later"))
        await bench.advance(1)
        met.cancel()
        assert len(bench.deadlines) == 1
        await bench.advance(9)
        assert len(bench.deadlines) == 0
        assert bench.called == ["met", "later"]


async def test_a_call_may_set_another_deadline() -> None:
    async with running() as bench:
        deadlines = bench.deadlines

        def again() -> None:
            bench.called.append("tick")
            deadlines.after(1, again)

        deadlines.after(1, again)
        for count in range(1, 5):
            await bench.advance(1)
            assert bench.called == ["tick"] * count


async def test_a_call_may_cancel_another_that_is_due() -> None:
    async with running() as bench:
        second = bench.deadlines.after(2, bench.note("second"))
        bench.deadlines.after(1, second.cancel)
        await bench.advance(5)
        assert bench.called == []
        assert len(bench.deadlines) == 0


async def test_what_was_set_before_it_ran_is_met_too() -> None:
    bench = Bench()
    bench.deadlines.after(1, bench.note("one"))
    bench.clock.advance(2)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.deadlines.run)
            await anyio.wait_all_tasks_blocked()
            assert bench.called == ["one"]
            tasks.cancel_scope.cancel()


async def test_a_call_that_fails_ends_the_loop_loudly() -> None:
    bench = Bench()

    def fail() -> None:
        msg = "a bug"
        raise ZeroDivisionError(msg)

    bench.deadlines.after(0, fail)
    with anyio.fail_after(10), pytest.raises(ZeroDivisionError, match="a bug"):
        await bench.deadlines.run()


async def test_cancelled_deadlines_do_not_pile_up() -> None:
    async with running() as bench:
        bench.deadlines.after(50, bench.note("first"))
        for number in range(20_000):
            kept = number % 5_000 == 0
            deadline = bench.deadlines.after(100 + number, bench.note(str(number)))
            if not kept:
                deadline.cancel()
        assert len(bench.deadlines) == 5
        assert len(bench.deadlines._heap) < 200
        await bench.advance(50_000)
        assert bench.called == ["first", "0", "5000", "10000", "15000"]


async def test_many_deadlines_of_one_instant_are_all_met() -> None:
    async with running() as bench:
        for number in range(10_000):
            bench.deadlines.after(1, bench.note(str(number)))
        await bench.advance(1)
        assert bench.called == [str(number) for number in range(10_000)]


async def test_ten_tenths_of_a_second_reach_a_deadline_of_one_second() -> None:
    async with running() as bench:
        bench.deadlines.after(1, bench.note("one"))
        for _ in range(10):
            await bench.advance(0.1)
        assert bench.called == ["one"]


@pytest.mark.parametrize("spans", [(0.1, 0.2), (2.65, 235.86), (1.1, 2.2)], ids=str)
async def test_a_deadline_that_was_set_later_is_met_after_its_span(
    spans: tuple[float, float],
) -> None:
    before, span = spans
    async with running() as bench:
        await bench.advance(before)
        bench.deadlines.after(span, bench.note("met"))
        await bench.advance(span)
        assert bench.called == ["met"]


async def test_a_wall_clock_that_jumps_meets_no_deadline() -> None:
    async with running() as bench:
        bench.deadlines.after(10, bench.note("ten"))
        bench.clock.jump(3_600)
        await anyio.wait_all_tasks_blocked()
        assert bench.called == []
        bench.clock.jump(-7_200)
        await bench.advance(10)
        assert bench.called == ["ten"]


async def test_a_call_that_sets_itself_anew_for_the_same_instant_does_not_hold_the_loop() -> None:
    async with running() as bench:

        def again() -> None:
            bench.called.append("again")
            if len(bench.called) < 1_000:
                bench.deadlines.after(0, again)

        bench.deadlines.after(0, again)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert 0 < len(bench.called) < 100
