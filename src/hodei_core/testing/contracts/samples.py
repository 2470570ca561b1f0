"""What the suites put into a store: requests, workers and log segments, at known instants."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from hodei_core.ids import JobId, WorkerId
from hodei_core.logs import LogSegment, LogSource
from hodei_core.ports import Submission
from hodei_core.resources import Resources
from hodei_core.specs import JobSpec
from hodei_core.workers import Worker, WorkerState

START = datetime(2020, 1, 1, tzinfo=timezone.utc)
WORKER = WorkerId("worker")


def at(seconds: float) -> datetime:
    """Return the instant so many seconds after `START`."""
    return START + timedelta(seconds=seconds)


def submission(
    job_id: str, *, seconds: float = 0, retried_from: str | None = None, **fields: Any
) -> Submission:
    """Return a request with this id, made at `at(seconds)`; `fields` are those of `JobSpec`."""
    return Submission(
        id=JobId(job_id),
        spec=JobSpec(fields.pop("command", "true"), **fields),
        at=at(seconds),
        retried_from=None if retried_from is None else JobId(retried_from),
    )


def worker(
    worker_id: str = WORKER,
    *,
    slots: int = 1,
    state: WorkerState = WorkerState.READY,
    ready: float | None = 0,
    **fields: Any,
) -> Worker:
    """Return a worker that became ready at `at(ready)`, if that is given."""
    return Worker(
        id=WorkerId(worker_id),
        provider="provider",
        state=state,
        slots=slots,
        resources=Resources(cpus=slots),
        ready_at=None if ready is None else at(ready),
        **fields,
    )


def segment(
    first_seq: int,
    data: bytes,
    *,
    attempt: int = 1,
    seconds: float = 0,
    source: LogSource = LogSource.STDOUT,
    partial: bool = False,
) -> LogSegment:
    """Return a segment whose entries are numbered from `first_seq` on."""
    return LogSegment(
        attempt=attempt,
        first_seq=first_seq,
        count=max(data.count(b"\n"), 1),
        at=at(seconds),
        source=source,
        data=data,
        partial=partial,
    )
