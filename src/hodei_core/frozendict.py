"""A mapping that cannot change, so that a value that holds one is hashable and picklable."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from typing import Any, TypeVar

from hodei_core.compat import override

V = TypeVar("V")


class FrozenDict(Mapping[str, V]):
    """An immutable mapping with text keys; equal to any mapping with the same items."""

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, V] | None = None) -> None:
        self._items: dict[str, V] = (
            items._items if isinstance(items, FrozenDict) else dict(items) if items else {}
        )
        self._hash: int | None = None

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @override
    def items(self) -> ItemsView[str, V]:
        return self._items.items()

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenDict):
            return self._items == other._items
        return NotImplemented if not isinstance(other, Mapping) else self._items == dict(other)

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (self._items,))


EMPTY: FrozenDict[Any] = FrozenDict()
"""The one empty mapping that values share."""


def frozen_texts(items: Mapping[str, str]) -> FrozenDict[str]:
    """Return a mapping of text to text as one that cannot change; a converter of fields."""
    return FrozenDict(items)
