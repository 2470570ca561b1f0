"""Checks of arguments, whatever their annotation promised."""

from __future__ import annotations


def whole_number(name: str, value: object, *, least: int) -> int:
    """Return the value if it is a whole number and not below `least`.

    Raises:
        ValueError: it is not; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{name} must be a whole number from {least}, not {value!r}"
        raise ValueError(msg)
    return value
