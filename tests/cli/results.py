"""Results as a job's end gives them, made by hand."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hodei_core import JobId, JobResult, JobState, Reason

START = datetime(2020, 1, 1, 12, tzinfo=timezone.utc)


def make_result(state: JobState, reason: Reason | None, exit_code: int | None) -> JobResult:
    """Return a result of a job that ran for 2.5 s, or that never started."""
    never = reason is not None and exit_code is None
    return JobResult(
        job_id=JobId("0516c9cf-76ae-4bd7-b4d3-74cf08bf3864"),
        name=None,
        command="true",
        state=state,
        reason=reason,
        message=None if reason is None else "why",
        exit_code=exit_code,
        attempts=(),
        submitted_at=START,
        started_at=None if never else START,
        finished_at=START + timedelta(seconds=2.5),
    )
