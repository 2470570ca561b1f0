from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.errors import InvalidJobError
from hodei_core.resources import Resources, format_bytes, parse_bytes
from tests.values.helpers import assert_frozen, cases, deterministic, pickled

GIB = 1024**3

resources = st.builds(
    Resources,
    cpus=st.integers(0, 1000).map(lambda n: n / 10),
    memory=st.none() | st.integers(0, 64 * GIB),
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096b", 4096),
        ("1KiB", 1024),
        ("1kb", 1000),
        ("1 kB", 1000),
        ("512MiB", 512 * 1024**2),
        ("512 mib", 512 * 1024**2),
        ("1MB", 10**6),
        ("1.5GiB", 3 * GIB // 2),
        ("1.5 GB", 1_500_000_000),
        ("2gb", 2 * 10**9),
        ("3TB", 3 * 10**12),
        ("3TiB", 3 * 1024**4),
        ("  7 B  ", 7),
        ("0.5KiB", 512),
        ("\t1\nKiB ", 1024),
    ],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_bytes(text) == size
    assert Resources(memory=text).memory == size


@pytest.mark.parametrize(
    "text",
    cases(
        "",
        " ",
        "MiB",
        "12 parsecs",
        "-1",
        "-1MiB",
        "+1",
        "1e3",
        "1_000",
        "1,5GB",
        ".5GB",
        "1.GB",
        "1..5GB",
        "0x10",
        "1 Mi B",
        "1Mbit",
        "1EiB",
        "inf",
        "nan",
        "9" * 19,
        "1\0",
        "x" * 1_000_000,
    ),
)
def test_a_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidJobError, match="is no size") as caught:
        Resources(memory=text)
    assert caught.value.field == "resources.memory"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", cases("1" + " " * 1_000_000 + "!", " " * 1_000_000 + "!", "1" * 1_000_000)
)
def test_a_huge_text_is_refused_in_time_that_grows_with_its_length_only(text: str) -> None:
    with pytest.raises(InvalidJobError):
        parse_bytes(text)


@pytest.mark.parametrize("memory", cases(True, 1.5, b"1", [1], -1, -(10**10_000), math.inf))
def test_memory_of_another_type_or_below_zero_is_refused(memory: Any) -> None:
    with pytest.raises(InvalidJobError) as caught:
        Resources(memory=memory)
    assert caught.value.field == "resources.memory"


@pytest.mark.parametrize(
    "cpus", cases(True, "2", None, -1, -0.5, math.nan, math.inf, -math.inf, 10**400, -(10**10_000))
)
def test_cpus_that_are_no_finite_number_from_zero_are_refused(cpus: Any) -> None:
    with pytest.raises(InvalidJobError) as caught:
        Resources(cpus=cpus)
    assert caught.value.field == "resources.cpus"


def test_resources_are_one_cpu_unless_told_otherwise() -> None:
    assert Resources() == Resources(1, None) == Resources(cpus=1.0, memory=None)


def test_shares_of_a_cpu_add_up_exactly() -> None:
    total = Resources(0)
    for _ in range(10):
        total = total + Resources(0.1)
    assert total == Resources(1)
    assert Resources(1) - Resources(0.9) == Resources(0.1)


@deterministic
@given(resources, resources)
def test_what_was_added_can_be_taken_away(one: Resources, other: Resources) -> None:
    both = one + other
    assert both == other + one
    assert other <= both or one.memory is None
    assert (both - other).cpus == one.cpus
    if one.memory is not None and other.memory is not None:
        assert both - other == one
    assert (both.memory is None) == (one.memory is None and other.memory is None)


@deterministic
@given(resources, resources)
def test_what_does_not_fit_cannot_be_taken(offer: Resources, need: Resources) -> None:
    if need <= offer:
        rest = offer - need
        assert rest.cpus >= 0
        assert (rest.memory is None) == (offer.memory is None)
    else:
        with pytest.raises(ValueError, match="does not fit"):
            offer - need
    assert (need <= offer) == (offer >= need)


@pytest.mark.parametrize(
    ("need", "offer", "fits"),
    [
        (Resources(1), Resources(1), True),
        (Resources(1.1), Resources(1), False),
        (Resources(1, 10), Resources(1, 10), True),
        (Resources(1, 11), Resources(1, 10), False),
        (Resources(1, 11), Resources(1, None), True),
        (Resources(1, None), Resources(1, 0), True),
        (Resources(2, 1), Resources(1, 10), False),
        (Resources(0, 0), Resources(0, 0), True),
    ],
)
def test_a_need_fits_into_an_offer(need: Resources, offer: Resources, fits: bool) -> None:
    assert (need <= offer) is fits
    assert (offer >= need) is fits


def test_no_limit_stays_no_limit_when_something_is_taken() -> None:
    assert Resources(4, None) - Resources(1, GIB) == Resources(3, None)


def test_a_worker_has_its_slots_times_the_resources_of_one() -> None:
    assert Resources(0.5, 10) * 4 == Resources(2, 40)
    assert Resources(1, None) * 3 == Resources(3, None)
    assert Resources(1, 1) * 0 == Resources(0, 0)


@pytest.mark.parametrize(
    ("operation", "other"),
    [
        pytest.param(operator.le, 1, id="le"),
        pytest.param(operator.ge, 1, id="ge"),
        pytest.param(operator.add, 1, id="add"),
        pytest.param(operator.sub, 1, id="sub"),
        pytest.param(operator.mul, 1.5, id="mul"),
        pytest.param(operator.lt, Resources(), id="lt"),
    ],
)
def test_resources_mix_with_nothing_else(
    operation: Callable[[object, object], object], other: object
) -> None:
    with pytest.raises(TypeError):
        operation(Resources(), other)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Resources(), "1 CPU"),
        (Resources(2), "2 CPUs"),
        (Resources(0.5, "512MiB"), "0.5 CPUs, 512 MiB"),
        (Resources(1, 0), "1 CPU, 0 B"),
    ],
)
def test_resources_as_text(value: Resources, text: str) -> None:
    assert str(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2, "1 MiB"),
        (GIB, "1 GiB"),
        (5 * 1024**4, "5 TiB"),
    ],
)
def test_a_size_as_text(size: int, text: str) -> None:
    assert format_bytes(size) == text


@deterministic
@given(resources)
def test_resources_are_a_value(value: Resources) -> None:
    assert pickled(value) == value
    assert hash(pickled(value)) == hash(value)


def test_resources_cannot_be_changed() -> None:
    assert_frozen(Resources())
