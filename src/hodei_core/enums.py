"""The base of our enumerations."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING


class NamedEnum(Enum):
    """An enumeration whose members show as their bare names: `SUCCEEDED`."""

    if not TYPE_CHECKING:  # it has no type that every checker can tell
        __hash__ = object.__hash__  # members are single objects; Enum's own hash is a slow call

    def __repr__(self) -> str:
        return self.name
