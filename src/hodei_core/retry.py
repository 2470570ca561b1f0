"""When a failed attempt is followed by another, and after which pause."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import attrs

from hodei_core.checks import MAX_SPAN
from hodei_core.clock import to_timedelta
from hodei_core.errors import InvalidJobError, shown
from hodei_core.states import Reason
from hodei_core.values import Value

RETRYABLE = frozenset(
    {
        Reason.EXIT_CODE,
        Reason.SIGNALLED,
        Reason.OUT_OF_MEMORY,
        Reason.TIMEOUT,
        Reason.WORKER_LOST,
        Reason.INTERRUPTED,
    }
)
"""The reasons that a policy retries unless told otherwise."""

_MAY_BE_NAMED = RETRYABLE | {Reason.START_FAILED}


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _error(field: str, problem: str) -> InvalidJobError:
    return InvalidJobError(f"{field}: {problem}", field=field)


def _span(field: str, value: float | timedelta) -> timedelta:
    try:
        span = to_timedelta(value)
    except (TypeError, ValueError) as error:
        raise _error(field, str(error)) from None
    if span < timedelta(0):
        raise _error(field, f"must not be negative, not {shown(value)}")
    if span > MAX_SPAN:
        raise _error(field, f"must be at most {MAX_SPAN.days} days, not {shown(value)}")
    return span


def _first(value: float | timedelta) -> timedelta:
    return _span("retry.backoff.first", value)


def _max(value: float | timedelta) -> timedelta:
    return _span("retry.backoff.max", value)


def _number(field: str, value: float, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _error(field, f"must be a number, not {shown(value)}")
    if not low <= value <= high:
        raise _error(field, f"must lie between {low:g} and {high:g}, not {shown(value)}")
    return float(value)


def _factor(value: float) -> float:
    return _number("retry.backoff.factor", value, 1, 1000)


def _jitter(value: float) -> float:
    return _number("retry.backoff.jitter", value, 0, 1)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Backoff(Value):
    """A growing pause: `first * factor ** (n - 1)` before the n-th retry, at most `max`."""

    first: timedelta = attrs.field(default=timedelta(seconds=1), converter=_first)
    """The pause before the first retry; seconds or a timedelta."""

    factor: float = attrs.field(default=2.0, converter=_factor)
    """By how much each pause is longer than the one before."""

    max: timedelta = attrs.field(default=timedelta(minutes=5), converter=_max)
    """The longest pause; seconds or a timedelta."""

    jitter: float = attrs.field(default=0.1, converter=_jitter)
    """The share of each pause that is random, so that many retries do not come at once."""

    def pause(self, retry: int, chance: float) -> timedelta:
        """Return the pause before a retry, `retry` counted from 1.

        `chance` in [0, 1) places the pause within the jitter, which is centred: 0.5 gives
        the plain pause, and the pause never exceeds `max`.
        """
        longest = self.max.total_seconds()
        first = self.first.total_seconds()
        try:
            plain = min(first * self.factor ** (retry - 1), longest)
        except OverflowError:  # 1000.0 ** 500 does not fit into a float
            plain = longest if first else 0.0
        seconds = plain * (1 + self.jitter * (2 * chance - 1))
        return timedelta(seconds=min(seconds, longest))


def _members(field: str, what: str, value: object) -> frozenset[object]:
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        try:
            return frozenset(value)
        except TypeError:  # not hashable, so no member either
            pass
    raise _error(field, f"must be a set of {what}, not {shown(value)}")


def _reasons(value: Iterable[Reason]) -> frozenset[Reason]:
    reasons = set()
    for reason in _members("retry.on", "Reason members", value):
        if not isinstance(reason, Reason) or reason not in _MAY_BE_NAMED:
            name = reason.name if isinstance(reason, Reason) else shown(reason)
            names = ", ".join(sorted(r.name for r in _MAY_BE_NAMED))
            raise _error("retry.on", f"{name} cannot be retried; these can: {names}")
        reasons.add(reason)
    return frozenset(reasons)


def _exit_codes(value: Iterable[int] | None) -> frozenset[int] | None:
    if value is None:
        return None
    codes = set()
    for code in _members("retry.exit_codes", "exit codes", value):
        if not (isinstance(code, int) and is_whole(code) and 1 <= code <= 255):
            raise _error("retry.exit_codes", f"must be numbers from 1 to 255, not {shown(code)}")
        codes.add(code)
    return frozenset(codes)


def _attempts(value: int) -> int:
    if not (is_whole(value) and value >= 1):
        raise _error("retry.max_attempts", f"must be a whole number from 1, not {shown(value)}")
    return value


def _flag(value: bool) -> bool:
    if value is not True and value is not False:
        raise _error("retry.requeue_interrupted", f"must be True or False, not {shown(value)}")
    return value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RetryPolicy(Value):
    """How often a job is tried, after which ends, with which pauses."""

    max_attempts: int = attrs.field(default=1, converter=_attempts)
    """Attempts in all; 1: at most once started."""

    backoff: Backoff = attrs.field(factory=Backoff)
    """The pauses between attempts."""

    on: frozenset[Reason] = attrs.field(default=RETRYABLE, converter=_reasons)
    """The reasons that are retried. START_FAILED may be added."""

    exit_codes: frozenset[int] | None = attrs.field(default=None, converter=_exit_codes)
    """Narrows EXIT_CODE to these codes."""

    requeue_interrupted: bool = attrs.field(default=False, converter=_flag)
    """Whether an attempt that the host's own shutdown ended does not count, and is run again."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.backoff, Backoff):
            raise _error("retry.backoff", f"must be a Backoff, not {shown(self.backoff)}")

    def retries(self, reason: Reason, exit_code: int | None) -> bool:
        """Return whether an attempt that ended so is one that this policy retries."""
        if reason not in self.on:
            return False
        if reason is Reason.EXIT_CODE and self.exit_codes is not None:
            return exit_code in self.exit_codes
        return True
