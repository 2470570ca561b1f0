from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.checks import MAX_SPAN
from hodei_core.policies import WorkerPolicy
from tests.values.helpers import assert_frozen, cases, deterministic, pickled

SPANS = ("idle_timeout", "max_lifetime", "startup_timeout", "lease")
COUNTS = {"min_workers": 0, "max_workers": 1, "max_jobs": 1, "starts_per_minute": 1}
"""The fields that are whole numbers, and the least of each."""

OPTIONAL = ("idle_timeout", "max_lifetime", "max_jobs", "lease", "starts_per_minute")
TICK = timedelta(microseconds=1)


def test_the_defaults_are_those_of_the_contract() -> None:
    policy = WorkerPolicy()
    assert (policy.min_workers, policy.max_workers) == (0, 1)
    assert policy.idle_timeout == timedelta(seconds=60)
    assert policy.max_lifetime is None
    assert policy.max_jobs is None
    assert policy.startup_timeout == timedelta(minutes=2)
    assert policy.lease == timedelta(seconds=10)
    assert policy.starts_per_minute is None
    assert policy.cost_per_hour is None


def test_the_tables_of_these_tests_name_every_field() -> None:
    names = {field.name for field in attrs.fields(WorkerPolicy)}
    assert names == {*SPANS, *COUNTS, "cost_per_hour"}


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("given", [90, 90.0, timedelta(seconds=90)], ids=["int", "float", "span"])
def test_a_span_is_given_in_seconds_or_as_a_timedelta(name: str, given: Any) -> None:
    assert getattr(WorkerPolicy(**{name: given}), name) == timedelta(seconds=90)


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("span", [TICK, MAX_SPAN], ids=["shortest", "longest"])
def test_a_span_may_be_as_short_as_a_microsecond_and_as_long_as_a_century(
    name: str, span: timedelta
) -> None:
    fields: dict[str, Any] = {name: span}
    assert getattr(WorkerPolicy(**fields), name) == span


BAD_SPANS = cases(
    0,
    0.0,
    1e-9,
    -1,
    timedelta(0),
    -TICK,
    MAX_SPAN + TICK,
    MAX_SPAN.total_seconds() + 1,
    math.nan,
    math.inf,
    10**400,
    True,
    "60",
    [],
)


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("value", BAD_SPANS)
def test_a_span_that_is_none_is_refused_by_an_error_that_names_it(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^{name} must be "):
        WorkerPolicy(**{name: value})


@pytest.mark.parametrize("value", [True, "60", []], ids=repr)
def test_a_span_of_another_type_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="not " + type(value).__name__):
        WorkerPolicy(lease=value)


@pytest.mark.parametrize(("name", "least"), COUNTS.items())
def test_a_count_is_a_whole_number_from_its_least(name: str, least: int) -> None:
    policy = WorkerPolicy(**{"max_workers": 10, name: least})
    assert getattr(policy, name) == least


@pytest.mark.parametrize(("name", "least"), COUNTS.items())
@pytest.mark.parametrize("value", [-1, 1.0, True, math.nan, "2", [], -(10**5000)], ids=range(7))
def test_a_count_that_is_none_is_refused_by_an_error_that_names_it_and_its_least(
    name: str, least: int, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a whole number from {least}, not "):
        WorkerPolicy(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [2**60 + 1, 10**30, 10**5000], ids=["60", "100", "16610"])
def test_a_count_beyond_all_sense_is_refused_by_an_error_that_names_it(
    name: str, value: int
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be at most 2\*\*60, not "):
        WorkerPolicy(**{name: value})


@pytest.mark.parametrize("name", [name for name, least in COUNTS.items() if least])
def test_a_count_that_makes_no_sense_as_zero_is_refused_as_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a whole number from 1, not 0"):
        WorkerPolicy(**{name: 0})


@pytest.mark.parametrize("name", [*OPTIONAL, "cost_per_hour"])
def test_none_takes_a_limit_away(name: str) -> None:
    assert getattr(WorkerPolicy(**{name: None}), name) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["min_workers", "max_workers", "startup_timeout"])
def test_what_there_always_is_cannot_be_none(name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{name} must be "):
        WorkerPolicy(**{name: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 3, 0.25])
def test_a_cost_is_a_number_from_nothing(value: float) -> None:
    cost = WorkerPolicy(cost_per_hour=value).cost_per_hour
    assert (cost, type(cost)) == (value, float)


@pytest.mark.parametrize("value", [10**400, -(10**5000)], ids=["large", "negative"])
def test_a_cost_that_no_float_holds_is_refused_by_an_error_that_names_it(value: int) -> None:
    with pytest.raises(ValueError, match=r"^cost_per_hour must be a finite number, 0 or more"):
        WorkerPolicy(cost_per_hour=value)


@pytest.mark.parametrize("value", [-0.01, math.nan, math.inf, -math.inf, True, "1", []], ids=repr)
def test_a_cost_that_is_none_is_refused_by_an_error_that_names_it(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^cost_per_hour must be a finite number, 0 or more"):
        WorkerPolicy(cost_per_hour=value)


@deterministic
@given(least=st.integers(0, 5), most=st.integers(1, 5))
def test_no_more_workers_are_kept_warm_than_there_may_be(least: int, most: int) -> None:
    if least <= most:
        policy = WorkerPolicy(min_workers=least, max_workers=most)
        assert (policy.min_workers, policy.max_workers) == (least, most)
    else:
        with pytest.raises(
            ValueError, match=rf"^min_workers must be at most max_workers \({most}\), not {least}$"
        ):
            WorkerPolicy(min_workers=least, max_workers=most)


def test_a_change_of_a_policy_is_checked_too() -> None:
    with pytest.raises(ValueError, match="min_workers"):
        attrs.evolve(WorkerPolicy(), min_workers=2)


def test_a_policy_is_a_value() -> None:
    policy = WorkerPolicy(max_workers=3, lease=5, cost_per_hour=1)
    same = WorkerPolicy(max_workers=3, lease=timedelta(seconds=5), cost_per_hour=1.0)
    assert policy == same == pickled(policy)
    assert hash(policy) == hash(same)
    assert policy != WorkerPolicy(max_workers=3, lease=5)
    assert_frozen(policy)


def test_the_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        WorkerPolicy(1)  # type: ignore[call-arg]
