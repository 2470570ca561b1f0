"""What a `Hodei` takes from its surroundings unless it is told otherwise: time and chance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import attrs

from hodei_core.clock import Clock, SystemClock
from hodei_core.ids import RandomBytes


@attrs.frozen(kw_only=True)
class Ambient:
    """The clock and the source of chance where nobody names others."""

    clock: Clock = attrs.field(factory=SystemClock)
    random_bytes: RandomBytes = os.urandom
    simulated: bool = False
    """Whether time is virtual, so that nothing outside this program follows it."""


_REAL = Ambient()
_current: ContextVar[Ambient] = ContextVar("hodei_core_ambient", default=_REAL)


def ambient() -> Ambient:
    """Return what holds here: in this task, and in those that it starts."""
    return _current.get()


@contextmanager
def surrounded_by(surroundings: Ambient) -> Iterator[None]:
    """Have other surroundings hold inside a `with` block."""
    token = _current.set(surroundings)
    try:
        yield
    finally:
        _current.reset(token)
