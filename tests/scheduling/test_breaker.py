from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.retry import Backoff
from hodei_core.scheduling.breaker import BREAKER_BACKOFF, Breaker
from tests.scheduling.helpers import deterministic

PLAIN = 0.5  # the chance that gives a pause without its jitter
chances = st.floats(0, 1, exclude_max=True)


def opened(*, trips: int = 1, now: float = 0, chance: float = PLAIN) -> Breaker:
    """Return a breaker that opened `now`, after so many failures in a row."""
    breaker = Breaker()
    for _ in range(trips):
        breaker.asked(0)
        breaker.failed(now, chance, asked_at=0)
    assert breaker.state == "open"
    return breaker


def probing() -> Breaker:
    """Return a breaker that opened at 0 s and whose first probe is under way."""
    breaker = opened()
    breaker.asked(0)
    assert breaker.state == "probing"
    return breaker


def pause(breaker: Breaker) -> float:
    """Return how long a breaker that opened at 0 s stays open."""
    assert breaker.retry_at is not None
    return breaker.retry_at


def test_a_breaker_is_closed_at_first_and_allows_any_number_of_asks() -> None:
    breaker = Breaker()
    assert (breaker.state, breaker.failures) == ("closed", 0)
    assert (breaker.opened_at, breaker.retry_at) == (None, None)
    for _ in range(100):
        assert breaker.allows(0)
        breaker.asked(0)
    assert breaker.state == "closed"


def test_one_failure_opens_it_until_the_pause_is_over() -> None:
    breaker = Breaker()
    breaker.asked(0)
    assert breaker.failed(100, PLAIN, asked_at=0)
    assert (breaker.state, breaker.failures) == ("open", 1)
    assert (breaker.opened_at, breaker.retry_at) == (100, 101)
    assert not breaker.allows(100)
    assert not breaker.allows(100.999)
    assert breaker.allows(101)


def test_after_the_pause_exactly_one_probe_is_allowed() -> None:
    breaker = opened()
    assert breaker.allows(1)
    breaker.asked(0)
    assert (breaker.state, breaker.retry_at) == ("probing", None)
    assert not breaker.allows(1)
    assert not breaker.allows(1e9)


def test_a_probe_that_fails_opens_it_again_for_longer_and_trips_nothing() -> None:
    breaker = probing()
    assert not breaker.failed(5, PLAIN, asked_at=0)
    assert (breaker.state, breaker.failures) == ("open", 2)
    assert (breaker.opened_at, breaker.retry_at) == (0, 7)


def test_pauses_double_up_to_five_minutes() -> None:
    pauses = [pause(opened(trips=trips)) for trips in range(1, 13)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_pauses_are_those_that_it_was_given() -> None:
    breaker = Breaker(Backoff(first=timedelta(seconds=3), factor=1, jitter=0))
    breaker.failed(0, PLAIN, asked_at=0)
    assert breaker.retry_at == 3


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 3.6), (0.25, 3.8), (0.75, 4.2)])
def test_the_chance_places_a_pause_within_a_tenth(chance: float, expected: float) -> None:
    breaker = opened(trips=2)
    breaker.asked(0)
    breaker.failed(0, chance, asked_at=0)
    assert breaker.retry_at == pytest.approx(expected)


@deterministic
@given(chances=st.lists(chances, min_size=1, max_size=40))
def test_no_pause_is_longer_than_five_minutes_or_off_by_more_than_a_tenth(
    chances: list[float],
) -> None:
    breaker = Breaker()
    for number, chance in enumerate(chances):
        breaker.asked(0)
        breaker.failed(0, chance, asked_at=0)
        plain = min(2.0**number, 300)
        assert plain * 0.9 - 1e-6 <= pause(breaker) <= min(plain * 1.1, 300) + 1e-6


def test_failures_of_what_was_asked_before_it_opened_do_not_lengthen_the_pause() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.asked(0)
    assert [breaker.failed(now, PLAIN, asked_at=0) for now in (0, 0.1, 0.5, 0.9, 0.9)] == [True] + [
        False
    ] * 4
    assert (breaker.state, breaker.failures) == ("open", 5)
    assert (breaker.opened_at, breaker.retry_at) == (0, 1)
    breaker.asked(0)
    breaker.failed(1, PLAIN, asked_at=0)
    assert breaker.retry_at == 3


@pytest.mark.parametrize("make", [opened, probing, lambda: opened(trips=9)])
def test_a_success_closes_it_from_any_state_and_is_a_recovery(make: object) -> None:
    assert callable(make)
    breaker = make()
    assert breaker.succeeded()
    assert (breaker.state, breaker.failures) == ("closed", 0)
    assert (breaker.opened_at, breaker.retry_at) == (None, None)
    assert breaker.allows(0)


def test_a_success_while_it_is_closed_is_no_recovery() -> None:
    assert not Breaker().succeeded()


def test_after_a_worker_of_use_the_pauses_begin_anew() -> None:
    breaker = opened(trips=9)
    breaker.succeeded()
    breaker.proved()
    breaker.asked(0)
    assert breaker.failed(0, PLAIN, asked_at=0)
    assert (breaker.failures, breaker.opened_at, breaker.retry_at) == (1, 0, 1)


def test_workers_that_are_there_and_of_no_use_make_the_pauses_no_shorter() -> None:
    breaker = opened(trips=4)
    breaker.succeeded()
    breaker.asked(100)
    assert breaker.failed(100, PLAIN, asked_at=100)
    assert breaker.retry_at == 116


def test_a_late_failure_of_what_was_asked_before_the_probe_does_not_decide_for_it() -> None:
    breaker = opened()
    breaker.asked(1)
    assert not breaker.failed(2, PLAIN, asked_at=0)
    assert (breaker.state, breaker.failures, breaker.retry_at) == ("probing", 2, None)
    assert breaker.succeeded()
    assert breaker.state == "closed"


def test_a_probe_that_is_given_up_may_be_followed_by_another_at_once() -> None:
    breaker = opened()
    breaker.asked(1)
    breaker.gave_up(2, asked_at=0)
    assert breaker.state == "probing"
    breaker.gave_up(2, asked_at=1)
    assert (breaker.state, breaker.retry_at) == ("open", 2)
    assert breaker.allows(2)


class Polled:
    """A breaker before a provider that always fails, asked whenever it allows that."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.asks: list[float] = []
        self.fails: list[float] = []

    def look(self, now: float, answered_at: float, chance: float) -> None:
        if self.breaker.allows(now):
            self.asks.append(now)
            self.breaker.asked(0)
            self.breaker.failed(answered_at, chance, asked_at=0)
            self.fails.append(answered_at)


@deterministic
@given(
    looks=st.lists(
        st.tuples(st.floats(0, 120), st.floats(0, 30), chances), min_size=20, max_size=60
    )
)
def test_between_a_failure_and_the_next_ask_at_least_the_pause_passes(
    looks: list[tuple[float, float, float]],
) -> None:
    polled, now = Polled(), 0.0
    for pause, takes, chance in looks:
        now += pause
        polled.look(now, now + takes, chance)
        now += takes
    for number, (failed, asked) in enumerate(zip(polled.fails, polled.asks[1:], strict=False)):
        assert asked - failed >= 0.9 * min(2.0**number, 300) - 1e-6


@deterministic
@given(chance=chances, step=st.sampled_from([0.01, 0.1, 0.5]))
def test_a_provider_that_always_fails_is_asked_seven_times_in_its_first_minute_at_most(
    chance: float, step: float
) -> None:
    polled = Polled()
    for number in range(round(60 / step)):
        polled.look(number * step, number * step, chance)
    assert 6 <= len(polled.asks) <= 7


def test_a_provider_that_fails_for_a_day_is_asked_every_five_minutes() -> None:
    polled = Polled()
    for second in range(24 * 3600):
        polled.look(second, second, PLAIN)
    assert [later - sooner for sooner, later in pairwise(polled.asks)][-200:] == [300] * 200


def test_the_pauses_of_the_contract_are_the_default() -> None:
    expected = Backoff(first=timedelta(seconds=1), factor=2, max=timedelta(minutes=5), jitter=0.1)
    assert expected == BREAKER_BACKOFF
