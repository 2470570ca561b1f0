"""How many workers a provider may have, and how long they live."""

from __future__ import annotations

from datetime import timedelta

import attrs

from hodei_core.checks import MAX_SPAN, finite_number, whole_number
from hodei_core.clock import to_timedelta
from hodei_core.values import Value


def _span(field: str, value: float | timedelta) -> timedelta:
    try:
        span = to_timedelta(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{field} {error}") from None
    if not timedelta(0) < span <= MAX_SPAN:
        msg = f"{field} must be more than 0 s and at most {MAX_SPAN.days} days, not {value!r}"
        raise ValueError(msg)
    return span


def _min_workers(value: int) -> int:
    return whole_number("min_workers", value, least=0)


def _max_workers(value: int) -> int:
    return whole_number("max_workers", value, least=1)


def _idle_timeout(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else _span("idle_timeout", value)


def _max_lifetime(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else _span("max_lifetime", value)


def _max_jobs(value: int | None) -> int | None:
    return None if value is None else whole_number("max_jobs", value, least=1)


def _startup_timeout(value: float | timedelta) -> timedelta:
    return _span("startup_timeout", value)


def _lease(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else _span("lease", value)


def _starts_per_minute(value: int | None) -> int | None:
    return None if value is None else whole_number("starts_per_minute", value, least=1)


def _cost_per_hour(value: float | None) -> float | None:
    return None if value is None else finite_number("cost_per_hour", value)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WorkerPolicy(Value):
    """How many workers a provider may have, and how long each of them lives.

    Spans are given in seconds or as `timedelta`.

    Raises:
        ValueError, TypeError: a field is not acceptable; the error names it.
    """

    min_workers: int = attrs.field(default=0, converter=_min_workers)
    """Kept warm, whether there is work or not."""

    max_workers: int = attrs.field(default=1, converter=_max_workers)
    """The most that exist at one time; those that are being made or ended are counted."""

    idle_timeout: timedelta | None = attrs.field(
        default=timedelta(seconds=60), converter=_idle_timeout
    )
    """A worker beyond `min_workers` that has been idle for so long is ended; None: never."""

    max_lifetime: timedelta | None = attrs.field(default=None, converter=_max_lifetime)
    """So long after it became ready, a worker takes no more work; None: no limit."""

    max_jobs: int | None = attrs.field(default=None, converter=_max_jobs)
    """A worker that was given so many attempts takes no more work; None: no limit."""

    startup_timeout: timedelta = attrs.field(
        default=timedelta(minutes=2), converter=_startup_timeout
    )
    """How long a worker may take to become ready before its making counts as failed."""

    lease: timedelta | None = attrs.field(default=timedelta(seconds=10), converter=_lease)
    """A worker that has not answered for so long is lost; None: it is never asked."""

    starts_per_minute: int | None = attrs.field(default=None, converter=_starts_per_minute)
    """The most workers whose making begins within any minute; None: no limit."""

    cost_per_hour: float | None = attrs.field(default=None, converter=_cost_per_hour)
    """What a worker costs, in one currency for all providers; None: unknown."""

    def __attrs_post_init__(self) -> None:
        if self.min_workers > self.max_workers:
            msg = (
                f"min_workers must be at most max_workers ({self.max_workers}), "
                f"not {self.min_workers}"
            )
            raise ValueError(msg)
