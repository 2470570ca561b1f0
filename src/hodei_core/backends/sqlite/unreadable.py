"""Rows that cannot be read, edited by hand or of a newer version: they stop nobody else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

logger: logging.Logger = logging.getLogger(__name__)

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)
"""What making a value of such a row raises."""

_REMEMBERED = 10_000  # rows that were told of; beyond that they may be told of again

R = TypeVar("R")
V = TypeVar("V")

_told: set[tuple[str, object]] = set()


def readable(
    kind: str,
    rows: Iterable[R],
    make: Callable[[R], V],
    name: Callable[[R], Any] = repr,
) -> list[V]:
    """Return the values of those rows that can be read; of each other one is told once."""
    values: list[V] = []
    for row in rows:
        try:
            values.append(make(row))
        except UNREADABLE as error:
            tell(kind, name(row), error)
    return values


def tell(kind: str, name: object, error: Exception) -> None:
    """Write to the log that a row cannot be read, once."""
    if (kind, name) in _told:
        return
    if len(_told) >= _REMEMBERED:
        _told.clear()
    _told.add((kind, name))
    logger.warning("%s %r cannot be read: %r", kind, name, error, extra={"action": "read"})
