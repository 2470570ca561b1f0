"""What the store asks of SQLite is answered by an index, never by looking through all jobs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import aiosqlite
import pytest

from hodei_core import (
    Job,
    JobId,
    JobSpec,
    JobState,
    LogSource,
    Needs,
    Resources,
    Worker,
    WorkerId,
    WorkerState,
)
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId
from hodei_core.logs import LogSegment
from hodei_core.ports import (
    Accept,
    Advance,
    AppendLogs,
    CancelRequest,
    Change,
    Cover,
    JobFilter,
    JoinHost,
    MarkDue,
    Outcome,
    Prune,
    PutWorker,
    RemoveHost,
    RemoveWorker,
    RenewHost,
    RequestCancel,
    Submission,
)

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
HOST = HostId("here")
WORKER = WorkerId("here-1")
SPEC = JobSpec(("true",), name="some", labels={"kind": "rare"})
LARGE = frozenset({"jobs", "specs", "labels", "keys", "logs", "log_bounds", "events"})
SCAN = re.compile(r"^SCAN (\w+)(?! USING (COVERING )?INDEX)")


class Traced:
    """A store that writes down what it asks of SQLite."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.statements: list[str] = []

    async def open(self) -> None:
        await self.store.open(HOST)
        connections = [
            each for each in vars(self.store).values() if isinstance(each, aiosqlite.Connection)
        ]
        assert len(connections) >= 2
        for connection in connections:
            await connection.set_trace_callback(self.statements.append)

    async def apply(self, *changes: Change) -> list[Outcome]:
        return await self.store.apply(changes)

    def scans(self, path: Path) -> list[str]:
        """Return the statements that look through a large table, each with its plan."""
        found = []
        connection = sqlite3.connect(path)
        for statement in self.statements:
            if not re.match(r"\s*(select|insert|update|delete|with)", statement, re.IGNORECASE):
                continue
            plan = connection.execute(f"explain query plan {statement}").fetchall()
            steps = [step for *_, step in plan]
            if any(_looks_through(statement, step) for step in steps):
                found.append(f"{' '.join(statement.split())}: {steps}")
        connection.close()
        return found


def _looks_through(statement: str, step: str) -> bool:
    scanned = SCAN.match(step)
    if scanned is None:
        return False
    name = scanned[1]
    return name in LARGE or not LARGE.isdisjoint(re.findall(rf"\b(\w+) {name}\b", statement))


@pytest.fixture
async def traced(tmp_path: Path) -> AsyncIterator[Traced]:
    traced = Traced(tmp_path / "jobs.db")
    await traced.open()
    yield traced
    await traced.store.close()


async def accepted(traced: Traced, *specs: JobSpec) -> list[Job]:
    submissions = tuple(
        Submission(id=JobId(f"job-{number}"), spec=spec, at=AT) for number, spec in enumerate(specs)
    )
    (outcome,) = await traced.apply(Accept(submissions))
    return list(outcome.jobs)


async def test_no_change_looks_through_a_table(traced: Traced) -> None:
    worker = Worker(
        id=WORKER,
        provider="here",
        state=WorkerState.READY,
        slots=8,
        resources=Resources(cpus=8),
        ready_at=AT,
        host_id=HOST,
    )
    record = HostRecord(id=HOST)
    await traced.apply(JoinHost(record), RenewHost(record), PutWorker(worker))
    job, later, keyed, _ = await accepted(
        traced, SPEC, JobSpec("b", delay=1), JobSpec("c", key="k"), SPEC
    )
    await traced.apply(MarkDue(AT + timedelta(seconds=2)))
    await traced.apply(Cover((keyed.id,), HOST, AT))
    request = CancelRequest(at=AT)
    await traced.apply(RequestCancel((job.id, later.id), request))
    assigned = job.assigned(WORKER, "here", AT, host_id=HOST)
    running = assigned.started(AT)
    final = running.finished(JobState.SUCCEEDED, None, at=AT, exit_code=0)
    segment = LogSegment(
        attempt=1, first_seq=1, count=1, at=AT, source=LogSource.STDOUT, data=b"x\n", partial=False
    )
    outcomes = await traced.apply(
        Advance(assigned, job.version),
        Advance(running, assigned.version),
        AppendLogs(job.id, (segment,)),
        Advance(final, running.version),
        Advance(assigned, job.version),
    )
    assert [outcome.applied for outcome in outcomes] == [True, True, True, True, False]
    (outcome,) = await traced.apply(Prune(AT + timedelta(days=1)))
    assert outcome.count == 1
    await traced.apply(RemoveWorker(WORKER), RemoveHost(HOST))
    assert traced.scans(traced.store.path) == []
    assert len(traced.statements) > 40


async def test_nothing_that_is_shown_is_looked_for_in_a_whole_table(traced: Traced) -> None:
    job, other, _ = await accepted(traced, SPEC, SPEC, JobSpec("b", delay=1))
    traced.statements.clear()
    store = traced.store
    live = frozenset({JobState.PENDING, JobState.RUNNING})
    ended = frozenset({JobState.FAILED, JobState.CANCELLED})
    for matching in (
        JobFilter(states=frozenset({JobState.FAILED})),
        JobFilter(states=live),
        JobFilter(states=ended),
        JobFilter(states=ended | live),
        JobFilter(states=frozenset(JobState)),
        JobFilter(name="some"),
        JobFilter(labels={"kind": "rare"}),
    ):
        await store.jobs.select(matching, limit=10)
        await store.jobs.select(matching, limit=10, after=other.id)
    await store.jobs.select(JobFilter(), limit=10, after=other.id)
    assert await store.jobs.get(job.id) is not None
    assert (await store.jobs.counts())[JobState.PENDING] == 3
    needs = Needs.of(SPEC)
    assert await store.queue.needs() == [needs]
    assert len(await store.queue.peek(needs, 10)) == 2
    assert await store.queue.position(other.id) == 1
    assert await store.queue.next_due() is not None
    assert len(await store.queue.overdue(AT, None, 10)) == 2
    assert len(await store.queue.overdue(AT, (AT, job.seq), 10)) == 1
    await store.logs.bounds(job.id)
    await store.logs.read(job.id, after=0, max_bytes=100)
    await store.logs.read_back(job.id, before=9, max_bytes=100)
    await store.workers.select()
    hosts = store.hosts
    assert hosts is not None
    await hosts.select()
    await hosts.abandoned_workers()
    await hosts.abandoned_jobs()
    await hosts.cancel_requests(HOST)
    assert traced.scans(store.path) == []
    assert len(traced.statements) > 20


async def test_a_look_through_all_jobs_is_seen(traced: Traced) -> None:
    await traced.store.jobs.counts()
    assert traced.scans(traced.store.path) == []
    traced.statements.append("select seq from jobs where message = 'x' order by seq desc")
    assert len(traced.scans(traced.store.path)) == 1


async def test_jobs_of_several_states_are_read_from_an_index_of_each(traced: Traced) -> None:
    await accepted(traced, SPEC)
    states = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.PENDING})
    traced.statements.clear()
    await traced.store.jobs.select(JobFilter(states=states), limit=10)
    (statement,) = traced.statements
    connection = sqlite3.connect(traced.store.path)
    steps = [row[-1] for row in connection.execute(f"explain query plan {statement}")]
    connection.close()
    ordered = [step for step in steps if "INDEX jobs_final (state=?)" in step]
    assert len(ordered) == 2
    assert any("jobs_live" in step for step in steps)
    assert not any("ORDER BY" in step for step in steps)


async def test_numbers_of_classes_are_remembered_up_to_a_bound(traced: Traced) -> None:
    for first in range(0, 3_000, 100):
        numbers = range(first, first + 100)
        specs = [JobSpec("a", requires={"place": str(number)}) for number in numbers]
        submissions = (
            Submission(id=JobId(f"job-{n}"), spec=s, at=AT)
            for n, s in zip(numbers, specs, strict=True)
        )
        await traced.apply(Accept(tuple(submissions)))
    spec = JobSpec("a", requires={"place": "0"})
    (outcome,) = await traced.apply(Accept((Submission(id=JobId("again"), spec=spec, at=AT),)))
    assert outcome.new == (True,)
    writing = traced.store._writing
    assert writing is not None
    assert len(writing._conn._classes) <= 1_124  # type: ignore[attr-defined]
    assert len(await traced.store.queue.peek(Needs.of(spec), 9)) == 2
