from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from hodei_core.clock import SystemClock, to_timedelta
from tests.values.helpers import cases


@pytest.mark.parametrize(
    ("value", "span"),
    [
        (0, timedelta(0)),
        (1, timedelta(seconds=1)),
        (0.25, timedelta(milliseconds=250)),
        (-2, timedelta(seconds=-2)),
        (timedelta(minutes=3), timedelta(minutes=3)),
    ],
)
def test_a_span_is_seconds_or_a_timedelta(value: float | timedelta, span: timedelta) -> None:
    assert to_timedelta(value) == span


@pytest.mark.parametrize("value", cases(True, "5", None, b"5", 1j, [1]))
def test_a_span_of_another_type_is_refused(value: float) -> None:
    with pytest.raises(TypeError, match="seconds"):
        to_timedelta(value)


@pytest.mark.parametrize(
    "value", cases(float("nan"), float("inf"), float("-inf"), 1e300, 10**400, -(10**10_000))
)
def test_a_span_that_is_not_finite_or_too_large_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        to_timedelta(value)


def test_the_present_instant_is_aware_and_in_utc() -> None:
    assert SystemClock().now().tzinfo is timezone.utc


def test_monotonic_time_never_goes_back() -> None:
    clock = SystemClock()
    times = [clock.monotonic() for _ in range(1000)]
    assert times == sorted(times)


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
async def test_a_sleep_that_is_not_positive_returns_at_once(seconds: float) -> None:
    clock = SystemClock()
    await clock.sleep(seconds)
