"""What the tests of the values share."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import settings

from hodei_core.errors import InvalidJobError
from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.specs import JobSpec
from hodei_core.states import JobState, Reason

T = TypeVar("T")

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
JOB = JobId("a-job")
WORKER = WorkerId("local-1")

deterministic = settings(derandomize=True, deadline=None, max_examples=100)
"""The same examples in each run, however slow the machine."""


def cases(*values: object) -> list[Any]:
    """Return parameters with an id each, whatever their values look like."""
    return [
        pytest.param(value, id=f"{number}-{type(value).__name__}")
        for number, value in enumerate(values)
    ]


def after(seconds: float) -> datetime:
    """Return an instant so many seconds later than `NOW`."""
    return NOW + timedelta(seconds=seconds)


def spec(**fields: Any) -> JobSpec:
    """Return a request for `true`, or for what the fields say."""
    return JobSpec(**{"command": "true", **fields})


def refusal(**fields: Any) -> InvalidJobError:
    """Return the error by which a request with these fields is refused."""
    with pytest.raises(InvalidJobError) as caught:
        spec(**fields)
    return caught.value


def accepted(**fields: Any) -> Job:
    """Return a job that was just accepted."""
    return Job.accepted(id=JOB, spec=spec(**fields), seq=7, at=NOW, retried_from=JobId("old"))


def job_in(state: JobState) -> Job:
    """Return a job in a state, by the shortest way there."""
    pending = accepted()
    if state is JobState.PENDING:
        return pending
    assigned = pending.assigned(WORKER, "local", after(1))
    if state is JobState.ASSIGNED:
        return assigned
    running = assigned.started(after(2))
    if state is JobState.RUNNING:
        return running
    reason = {
        JobState.SUCCEEDED: None,
        JobState.FAILED: Reason.EXIT_CODE,
        JobState.CANCELLED: Reason.CANCELLED,
        JobState.TIMED_OUT: Reason.TIMEOUT,
    }[state]
    return running.finished(state, reason, at=after(3), exit_code=0 if reason is None else 1)


def pickled(value: T) -> T:
    """Return a value as it comes back from a pickle."""
    copy: T = pickle.loads(pickle.dumps(value))
    return copy


def assert_frozen(value: object) -> None:
    """Check that no field of an attrs value can be set or deleted."""
    for field in attrs.fields(type(value)):  # type: ignore[arg-type]  # any attrs class
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, field.name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(value, field.name)


def run_python(script: str, *, data: bytes = b"", hash_seed: int = 0) -> bytes:
    """Return what a script prints in an interpreter of its own."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONHASHSEED": str(hash_seed),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=data,
        env=environment,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    return done.stdout
