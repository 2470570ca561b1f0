"""The base of plain values: how they show, when they are equal."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs


class Value:
    """Shows its fields, and equals a value of the same class with the same fields.

    What attrs would write anew for each class, at more than the cost of all the rest of it:
    with some fifty of them a third of the time to import the package. Classes that are hashed
    or compared often have their own from attrs.
    """

    __slots__ = ()
    __attrs_attrs__: ClassVar[tuple[attrs.Attribute[Any], ...]]

    def __repr__(self) -> str:
        shown: list[str] = []
        for field in self.__attrs_attrs__:
            if field.repr:
                show = field.repr if callable(field.repr) else repr
                shown.append(f"{field.name}={show(getattr(self, field.name))}")
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash((type(self), self._content()))

    def _content(self) -> tuple[object, ...]:
        return tuple([getattr(self, field.name) for field in self.__attrs_attrs__])
