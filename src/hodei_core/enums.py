"""The base of our enumerations."""

from __future__ import annotations

from enum import Enum


class NamedEnum(Enum):
    """An enumeration whose members show as their bare names: `SUCCEEDED`."""

    __hash__ = object.__hash__  # members are single objects; Enum's own hash is a slow call

    def __repr__(self) -> str:
        return self.name
