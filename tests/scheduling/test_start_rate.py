from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.scheduling.start_rate import StartRate
from tests.scheduling.helpers import deterministic

# Multiples of 1/8 s: their sums are exact, so that the model may compare them.
gaps = st.lists(st.integers(0, 30 * 8).map(lambda eighths: eighths / 8), max_size=200)


def begun(rate: StartRate, instants: list[float]) -> list[float]:
    """Begin a worker at each of these instants at which that is allowed; return those."""
    starts = []
    for now in instants:
        if rate.allows(now):
            rate.started(now)
            starts.append(now)
    return starts


@deterministic
@given(most=st.integers(1, 5), gaps=gaps)
def test_no_more_workers_than_the_limit_are_begun_within_any_minute(
    most: int, gaps: list[float]
) -> None:
    starts = begun(StartRate(most), list(accumulate(gaps)))
    for since in starts:
        assert sum(since <= start < since + 60 for start in starts) <= most


@deterministic
@given(most=st.integers(1, 5), gaps=gaps)
def test_a_worker_is_refused_only_if_the_minute_before_is_full(
    most: int, gaps: list[float]
) -> None:
    instants = list(accumulate(gaps))
    starts: list[float] = []
    rate = StartRate(most)
    for now in instants:
        recent = sum(now - 60 < start <= now for start in starts)
        assert rate.allows(now) == (recent < most)
        starts += begun(rate, [now])


@deterministic
@given(most=st.integers(1, 5), gaps=gaps, fraction=st.floats(0, 1, exclude_max=True))
def test_the_next_is_allowed_from_the_instant_that_was_told_and_not_before(
    most: int, gaps: list[float], fraction: float
) -> None:
    rate = StartRate(most)
    starts = begun(rate, list(accumulate(gaps)))
    at = rate.next_at()
    if len(starts) < most:
        assert at == -math.inf
    else:
        assert at == starts[-most] + 60
        assert rate.allows(at)
        assert not rate.allows(starts[-most] + 59 * fraction)
        assert not rate.allows(math.nextafter(at, 0))


def test_at_first_as_many_as_the_limit_are_begun_at_once() -> None:
    assert begun(StartRate(3), [10.0] * 5) == [10.0] * 3


def test_without_a_limit_any_number_is_begun_at_once_and_none_is_remembered() -> None:
    rate = StartRate(None)
    assert len(begun(rate, [0.0] * 1_000)) == 1_000
    assert rate.next_at() == -math.inf
    assert rate._starts is None


def test_no_more_starts_are_remembered_than_the_limit() -> None:
    rate = StartRate(2)
    begun(rate, [float(second) for second in range(100_000)])
    assert rate._starts is not None
    assert len(rate._starts) == 2


@pytest.mark.parametrize("most", [1, 2, 7])
def test_a_steady_wish_is_met_as_often_as_the_limit_says(most: int) -> None:
    starts = begun(StartRate(most), [float(second) for second in range(600)])
    assert len(starts) == 10 * most
