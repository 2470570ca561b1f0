"""What all plain values have in common."""

from __future__ import annotations

import pickle

import attrs
import pytest

from hodei_core.values import Value


@attrs.frozen(eq=False, repr=False)
class Point(Value):
    x: int
    y: object = attrs.field(default=None, repr=False)


@attrs.frozen(eq=False, repr=False)
class NamedPoint(Point):
    name: str = attrs.field(default="origin", repr=str.upper)


def test_a_value_shows_its_fields_each_in_its_way() -> None:
    assert repr(NamedPoint(x=1)) == "NamedPoint(x=1, name=ORIGIN)"


def test_a_field_that_is_not_shown_counts_all_the_same() -> None:
    assert repr(Point(1, "secret")) == "Point(x=1)"
    assert Point(1, "secret") != Point(1, "other")


def test_values_with_equal_fields_are_equal() -> None:
    assert Point(1, (2,)) == Point(1, (2,))
    assert hash(Point(1, (2,))) == hash(Point(1, (2,)))
    assert Point(1) != Point(2)
    assert len({Point(1), Point(1), Point(2)}) == 2


def test_values_of_different_classes_differ() -> None:
    assert Point(1) != NamedPoint(1)
    assert NamedPoint(1) != Point(1)
    assert Point(1) != (1, None)
    assert hash(Point(1)) != hash(NamedPoint(1))


def test_a_value_with_a_mutable_field_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1, []))


def test_a_value_is_frozen_and_can_be_pickled() -> None:
    point = NamedPoint(1, "y", "n")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(point)) == point
    assert attrs.evolve(point, x=3) == NamedPoint(3, "y", "n")
