"""Checks of arguments, whatever their annotation promised."""

from __future__ import annotations

import math
from datetime import timedelta

from hodei_core.clock import to_timedelta

MOST = 2**60
"""The largest whole number that is accepted: far below what 64 bits hold."""

MAX_SLOTS = 65_536
"""The most slots of a worker: each is a task, made when the worker is."""

MAX_SPAN = timedelta(days=36_525)
"""A hundred years: the longest span that is accepted, so that no instant can overflow."""


def whole_number(name: str, value: object, *, least: int, most: int = MOST) -> int:
    """Return the value if it is a whole number from `least` to `most`.

    Raises:
        ValueError: it is not; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} must be a whole number from {least}, not {_shown(value)}"
        raise ValueError(msg)
    if value > most:
        bound = "2**60" if most == MOST else most
        msg = f"{name} must be at most {bound}, not {_shown(value)}"
        raise ValueError(msg)
    return value


def finite_number(name: str, value: object) -> float:
    """Return the value if it is a finite number and not negative.

    Raises:
        ValueError: it is not; the message names the argument.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if 0 <= number < math.inf:
            return number
    msg = f"{name} must be a finite number, 0 or more, not {_shown(value)}"
    raise ValueError(msg)


def text(name: str, value: object) -> str:
    """Return the value if it is text.

    Raises:
        TypeError: it is not; the message names the argument.
    """
    if not isinstance(value, str):
        msg = f"{name} must be text, not {type(value).__name__}"
        raise TypeError(msg)
    return value


def text_or_none(name: str, value: object) -> str | None:
    """Return the value if it is text, or None.

    Raises:
        TypeError: it is neither; the message names the argument.
    """
    return None if value is None else text(name, value)


def span(name: str, value: float | timedelta) -> timedelta:
    """Return a span given in seconds or as a `timedelta` if it is not negative.

    Raises:
        TypeError, ValueError: it is none, is negative or too large; the message names the argument.
    """
    try:
        length = to_timedelta(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} {error}") from None
    if length < timedelta(0):
        msg = f"{name} must be 0 or more seconds, not {value!r}"
        raise ValueError(msg)
    if length > MAX_SPAN:
        msg = f"{name} must be at most {MAX_SPAN.days} days, not {value!r}"
        raise ValueError(msg)
    return length


def _shown(value: object) -> str:
    """Return the value as it is written; Python refuses to write out very long numbers."""
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"
