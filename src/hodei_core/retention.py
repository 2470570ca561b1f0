"""How long what has ended is kept."""

from __future__ import annotations

from datetime import timedelta

import attrs

from hodei_core.checks import span, whole_number
from hodei_core.states import JobState
from hodei_core.values import Value

FAILED_STATES = frozenset({JobState.FAILED, JobState.TIMED_OUT})
"""The ends that are kept longer, since somebody will ask why."""


def _max_age(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else span("max_age", value)


def _failed_max_age(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else span("failed_max_age", value)


def _max_jobs(value: int | None) -> int | None:
    return None if value is None else whole_number("max_jobs", value, least=0)


def _max_log_bytes(value: int | None) -> int | None:
    return None if value is None else whole_number("max_log_bytes", value, least=0)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Retention(Value):
    """How long a store keeps jobs that have ended, and their logs; None: without limit.

    A job that has not ended is never touched, and neither is its log. Ages are given in seconds
    or as `timedelta`, and count from the end of the job.

    Raises:
        ValueError, TypeError: a field is not acceptable; the error names it.
    """

    max_age: timedelta | None = attrs.field(default=timedelta(days=7), converter=_max_age)
    """Jobs that ended well or were cancelled are deleted after this."""

    failed_max_age: timedelta | None = attrs.field(
        default=timedelta(days=30), converter=_failed_max_age
    )
    """Jobs that ended FAILED or TIMED_OUT are deleted after this."""

    max_jobs: int | None = attrs.field(default=1_000_000, converter=_max_jobs)
    """The most jobs that are kept after their end; beyond it those that ended first go."""

    max_log_bytes: int | None = attrs.field(default=1024**3, converter=_max_log_bytes)
    """What all logs together may take; beyond it the logs go of the jobs that were submitted first.

    The jobs stay. Who reads such a log is given one entry that counts what is lost.
    """
