"""The fields of JSON are those that the page names."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from hodei_core import (
    Explanation,
    JobId,
    JobState,
    LogEntry,
    LogSource,
    Resources,
    Stats,
    Worker,
    WorkerState,
)
from hodei_core.cli.records import (
    entry_fields,
    explanation_fields,
    job_fields,
    result_fields,
    stats_fields,
    worker_fields,
)
from hodei_core.ids import WorkerId
from hodei_core.jobs import Job
from hodei_core.specs import JobSpec
from tests.cli.results import START, make_result
from tests.docs.pages import DOCS

JOB = Job.accepted(id=JobId("a"), spec=JobSpec("true"), seq=1, at=START)
MADE = {
    "log": entry_fields(
        LogEntry(job_id=JobId("a"), attempt=1, seq=1, at=START, source=LogSource.STDOUT, data=b"x")
    ),
    "result": result_fields(make_result(JobState.SUCCEEDED, None, 0)),
    "job": job_fields(JOB),
    "worker": worker_fields(
        Worker(
            id=WorkerId("w"), provider="p", state=WorkerState.READY, slots=1, resources=Resources()
        )
    ),
    "stats": stats_fields(
        Stats(pending=0, jobs={}, workers={}, slots_used=0, slots_total=0, providers={}), 0
    ),
    "explanation": explanation_fields(
        Explanation(
            job_id=JobId("a"),
            state=JobState.PENDING,
            summary="x",
            history=((JobState.RUNNING, timedelta(1), "y"),),
        )
    ),
}


@pytest.mark.parametrize("kind", MADE)
def test_the_page_names_the_fields_in_their_order(kind: str) -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    table = page.split(f"<!-- fields of {kind} -->")[1].split("\n\n")[1]
    named = [
        field
        for row in table.splitlines()[2:]
        for field in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert named == list(MADE[kind])
    assert MADE[kind]["type"] == kind
