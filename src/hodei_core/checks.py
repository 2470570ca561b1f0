"""Checks of arguments, whatever their annotation promised."""

from __future__ import annotations

import math


def whole_number(name: str, value: object, *, least: int) -> int:
    """Return the value if it is a whole number and not below `least`.

    Raises:
        ValueError: it is not; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} must be a whole number from {least}, not {value!r}"
        raise ValueError(msg)
    return value


def finite_number(name: str, value: object) -> float:
    """Return the value if it is a finite number and not negative.

    Raises:
        ValueError: it is not; the message names the argument.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= float(value) < math.inf:  # type: ignore[arg-type]
        msg = f"{name} must be a finite number, 0 or more, not {value!r}"
        raise ValueError(msg)
    return float(value)  # type: ignore[arg-type]
