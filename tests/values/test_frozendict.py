from __future__ import annotations

import copy
import pickle
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.frozendict import EMPTY, FrozenDict
from tests.values.helpers import deterministic, pickled, run_python

items = st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=5)


@deterministic
@given(items)
def test_it_is_the_mapping_that_it_was_made_of(source: dict[str, str]) -> None:
    frozen = FrozenDict(source)
    assert frozen == source
    assert source == frozen
    assert frozen == MappingProxyType(source)
    assert list(frozen) == list(source)
    assert list(frozen.items()) == list(source.items())
    assert list(frozen.values()) == list(source.values())
    assert len(frozen) == len(source)
    assert repr(frozen) == repr(source)
    assert all(frozen[key] == value for key, value in source.items())


@deterministic
@given(items)
def test_equal_ones_have_equal_hashes_whatever_their_order(source: dict[str, str]) -> None:
    one, other = FrozenDict(source), FrozenDict(dict(reversed(source.items())))
    assert one == other
    assert hash(one) == hash(other)
    assert pickled(one) == one
    assert copy.deepcopy(one) == one


def test_a_change_of_its_source_changes_nothing() -> None:
    source = {"a": "1"}
    frozen = FrozenDict(source)
    again = FrozenDict(frozen)
    source["a"] = "2"
    assert frozen == again == {"a": "1"}


def test_it_cannot_be_changed() -> None:
    frozen = FrozenDict({"a": "1"})
    with pytest.raises(TypeError):
        frozen["a"] = "2"  # type: ignore[index]
    with pytest.raises(TypeError):
        del frozen["a"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        frozen.update(a="2")  # type: ignore[attr-defined]


def test_it_equals_nothing_that_is_no_mapping() -> None:
    assert FrozenDict({"a": "1"}) != [("a", "1")]
    assert FrozenDict({"a": "1"}) != {"a": "2"}
    assert FrozenDict() == EMPTY == {}


def test_a_missing_key_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        EMPTY["a"]


def test_a_hash_does_not_travel_in_a_pickle() -> None:
    script = (
        "import pickle, sys\n"
        "from hodei_core.frozendict import FrozenDict\n"
        "loaded = pickle.loads(sys.stdin.buffer.read())\n"
        "print(hash(loaded) == hash(FrozenDict({'a': '1'})), loaded == {'a': '1'})"
    )
    frozen = FrozenDict({"a": "1"})
    hash(frozen)
    assert run_python(script, data=pickle.dumps(frozen), hash_seed=4).split() == [b"True"] * 2
