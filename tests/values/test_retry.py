from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.checks import MAX_SPAN
from hodei_core.errors import InvalidJobError
from hodei_core.retry import RETRYABLE, Backoff, RetryPolicy
from hodei_core.states import Reason
from tests.values.helpers import assert_frozen, deterministic, pickled

backoffs = st.builds(
    Backoff,
    first=st.floats(0, 1e9),
    factor=st.floats(1, 1000),
    max=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
)
chances = st.floats(0, 1, exclude_max=True)


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def test_the_defaults_are_those_of_the_contract() -> None:
    policy = RetryPolicy()
    assert policy.max_attempts == 1
    assert policy.backoff == Backoff(first=1, factor=2, max=300, jitter=0.1)
    assert policy.on == {
        Reason.EXIT_CODE,
        Reason.SIGNALLED,
        Reason.OUT_OF_MEMORY,
        Reason.TIMEOUT,
        Reason.WORKER_LOST,
        Reason.INTERRUPTED,
    }
    assert policy.exit_codes is None
    assert policy.requeue_interrupted is False


def test_each_pause_is_longer_by_the_factor_up_to_the_longest() -> None:
    backoff = Backoff(first=1, factor=2, max=10, jitter=0)
    pauses = [backoff.pause(retry, 0.9) for retry in range(1, 8)]
    assert pauses == [seconds(s) for s in (1, 2, 4, 8, 10, 10, 10)]


def test_the_jitter_is_centred_on_the_plain_pause() -> None:
    backoff = Backoff(first=10, jitter=0.2)
    assert backoff.pause(1, 0.0) == seconds(8)
    assert backoff.pause(1, 0.5) == seconds(10)
    assert backoff.pause(1, 0.75) == seconds(11)
    assert backoff.pause(2, 0.0) == seconds(16)


def test_jitter_spreads_pauses_that_have_reached_the_longest() -> None:
    backoff = Backoff(first=1, factor=3, max=10, jitter=0.2)
    assert backoff.pause(50, 0.0) == seconds(8)
    assert backoff.pause(50, 0.25) == seconds(9)
    assert backoff.pause(50, 0.99) == seconds(10)


@deterministic
@given(backoffs, st.integers(1, 100_000), chances)
def test_a_pause_is_never_negative_and_never_above_the_longest(
    backoff: Backoff, retry: int, chance: float
) -> None:
    assert timedelta(0) <= backoff.pause(retry, chance) <= backoff.max


@deterministic
@given(backoffs, st.integers(1, 2000))
def test_pauses_never_shrink(backoff: Backoff, retry: int) -> None:
    assert backoff.pause(retry, 0.5) <= backoff.pause(retry + 1, 0.5)


@deterministic
@given(backoffs, chances)
def test_the_first_pause_lies_within_the_jitter(backoff: Backoff, chance: float) -> None:
    plain = min(backoff.first, backoff.max)
    spread = plain * backoff.jitter + timedelta(microseconds=1)
    assert plain - spread <= backoff.pause(1, chance) <= plain + spread


@pytest.mark.parametrize("retry", [500, 10_000, 10**9])
@pytest.mark.parametrize("factor", [1, 1.0000001, 2, 1000])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_no_number_of_retries_overflows(retry: int, factor: float, chance: float) -> None:
    backoff = Backoff(factor=factor, jitter=1)
    assert timedelta(0) <= backoff.pause(retry, chance) <= backoff.max
    assert Backoff(first=0, factor=factor).pause(retry, chance) == timedelta(0)


def test_the_longest_pause_may_be_shorter_than_the_first() -> None:
    assert Backoff(first=60, max=5, jitter=0).pause(1, 0.5) == seconds(5)


BAD_POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"max_attempts": 0}, "retry.max_attempts"),
    ({"max_attempts": -(10**10_000)}, "retry.max_attempts"),
    ({"max_attempts": 1.0}, "retry.max_attempts"),
    ({"max_attempts": True}, "retry.max_attempts"),
    ({"max_attempts": "3"}, "retry.max_attempts"),
    ({"max_attempts": None}, "retry.max_attempts"),
    ({"backoff": 5}, "retry.backoff"),
    ({"backoff": None}, "retry.backoff"),
    ({"on": Reason.EXIT_CODE}, "retry.on"),
    ({"on": "EXIT_CODE"}, "retry.on"),
    ({"on": ["EXIT_CODE"]}, "retry.on"),
    ({"on": None}, "retry.on"),
    ({"on": [[]]}, "retry.on"),
    ({"exit_codes": 1}, "retry.exit_codes"),
    ({"exit_codes": "1"}, "retry.exit_codes"),
    ({"exit_codes": b"1"}, "retry.exit_codes"),
    ({"exit_codes": [0]}, "retry.exit_codes"),
    ({"exit_codes": [256]}, "retry.exit_codes"),
    ({"exit_codes": [True]}, "retry.exit_codes"),
    ({"exit_codes": [1.0]}, "retry.exit_codes"),
    ({"exit_codes": [[]]}, "retry.exit_codes"),
    ({"requeue_interrupted": "no"}, "retry.requeue_interrupted"),
    ({"requeue_interrupted": 1}, "retry.requeue_interrupted"),
]


@pytest.mark.parametrize(
    ("fields", "field"),
    [pytest.param(*row, id=f"{i}-{row[1]}") for i, row in enumerate(BAD_POLICIES)],
)
def test_a_bad_field_of_a_policy_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJobError) as caught:
        RetryPolicy(**fields)
    assert caught.value.field == field


BAD_SPANS: list[Any] = [-1, math.nan, math.inf, "1", None, True, MAX_SPAN + timedelta(seconds=1)]
BAD_BACKOFFS: list[tuple[str, Any]] = [
    *(("first", value) for value in BAD_SPANS),
    *(("max", value) for value in BAD_SPANS),
    *(("factor", value) for value in (0.9, 1001, math.nan, math.inf, "2", None, True)),
    *(("jitter", value) for value in (-0.1, 1.1, math.nan, "0", None, False)),
]


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(*row, id=f"{i}-{row[0]}") for i, row in enumerate(BAD_BACKOFFS)],
)
def test_a_bad_field_of_a_backoff_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidJobError) as caught:
        Backoff(**{name: value})
    assert caught.value.field == f"retry.backoff.{name}"


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_only_what_can_be_retried_can_be_named(reason: Reason) -> None:
    if reason in RETRYABLE or reason is Reason.START_FAILED:
        assert RetryPolicy(on=frozenset({reason})).retries(reason, None)
    else:
        with pytest.raises(InvalidJobError, match=reason.name):
            RetryPolicy(on=frozenset({reason}))
        assert not RetryPolicy().retries(reason, None)


def test_start_failed_is_retried_only_if_it_is_named() -> None:
    assert not RetryPolicy(max_attempts=5).retries(Reason.START_FAILED, None)
    assert RetryPolicy(on={*RETRYABLE, Reason.START_FAILED}).retries(Reason.START_FAILED, None)


def test_exit_codes_narrow_the_reason_exit_code_and_no_other() -> None:
    policy = RetryPolicy(exit_codes=[75, 1])
    assert policy.retries(Reason.EXIT_CODE, 75)
    assert not policy.retries(Reason.EXIT_CODE, 2)
    assert policy.retries(Reason.SIGNALLED, 137)
    assert policy.retries(Reason.WORKER_LOST, None)
    assert not RetryPolicy(exit_codes=()).retries(Reason.EXIT_CODE, 1)
    assert RetryPolicy().retries(Reason.EXIT_CODE, 2)


def test_a_reason_that_is_not_named_is_not_retried() -> None:
    policy = RetryPolicy(on=[Reason.TIMEOUT], exit_codes=[1])
    assert policy.retries(Reason.TIMEOUT, None)
    assert not policy.retries(Reason.EXIT_CODE, 1)


def test_a_policy_is_a_value() -> None:
    policy = RetryPolicy(max_attempts=3, on=[Reason.TIMEOUT], exit_codes=[1])
    same = RetryPolicy(max_attempts=3, on={Reason.TIMEOUT}, exit_codes={1})
    assert policy == same == pickled(policy)
    assert hash(policy) == hash(same) == hash(pickled(policy))
    assert_frozen(policy)
    assert_frozen(policy.backoff)


def test_the_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        RetryPolicy(3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Backoff(3)  # type: ignore[call-arg]
