"""What it costs to take jobs of one class of needs from a file, with few in it and with many."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import Measure, take_turns
from benchmarks.stores import filled, new_files
from hodei_core import Job, JobSpec, Needs, Resources, Worker, WorkerId, WorkerState
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId
from hodei_core.ports import Advance, JoinHost, MarkDue, PutWorker

_AT = datetime(2026, 6, 1, tzinfo=timezone.utc)
_HOST = HostId("here")
_WORKER = WorkerId("here-1")
_BLOCKED = [JobSpec(("true",), requires={"kind": str(number)}) for number in range(9)]
_PLACEABLE = JobSpec(("true",))
_TAKEN = 10  # at once


def measure(quick: bool) -> list[Figure]:
    sizes = (1_000, 2_000) if quick else (1_000, 1_000_000)
    with new_files() as new_file:
        paths = [new_file() for _ in sizes]
        for path, size in zip(paths, sizes, strict=True):
            _fill(path, size)
        return asyncio.run(_measure(paths, sizes, 1 if quick else 15))


def _fill(path: Path, pending: int) -> None:
    """Fill a file: nine jobs of ten come first and cannot be placed."""
    with filled(path) as filler:
        for spec in (*_BLOCKED, _PLACEABLE):
            filler.waiting(spec, pending // 10)


async def _measure(paths: list[Path], sizes: tuple[int, int], rounds: int) -> list[Figure]:
    stores = [SqliteStore(path, synchronous="NORMAL") for path in paths]
    try:
        for store in stores:
            await store.open(_HOST)
            await store.apply([JoinHost(HostRecord(id=_HOST)), PutWorker(_worker())])

        def measures(number: int) -> list[Measure]:
            return [lambda: _take(stores[number]), lambda: _look(stores[number])]

        await take_turns(1, *measures(0), *measures(1))
        results = await take_turns(rounds, *measures(0), *measures(1))
    finally:
        for store in stores:
            await store.close()

    def figure(name: str, what: str, place: int) -> Figure:
        return Figure(
            name=f"sqlite_queue.{name}",
            what=f"{what}, {sizes[1]:,} pending, nine in ten unplaceable and in front",
            unit="us of CPU",
            floor_is=f"its cost with {sizes[0]:,} pending",
            floor=results.median(place) * 1e6,
            ours=results.median(place + 2) * 1e6,
            judged=Judged.RATIO,
            value=results.ratio(place + 2, place),
            first=2.0,
            end=1.5,
        )

    return [
        figure("take", "a job of a class of needs shown and assigned", 0),
        figure("classes", "the classes of needs listed", 1),
    ]


def _worker() -> Worker:
    return Worker(
        id=_WORKER,
        provider="here",
        state=WorkerState.READY,
        slots=1_000,
        resources=Resources(cpus=1_000),
        ready_at=_AT,
        host_id=_HOST,
    )


async def _look(store: SqliteStore) -> float:
    began = time.process_time()
    for _ in range(10):
        assert len(await store.queue.needs()) == len(_BLOCKED) + 1
    return (time.process_time() - began) / 10


async def _take(store: SqliteStore) -> float:
    """Return the CPU seconds that a job takes to be shown and assigned; all are put back."""
    taken: list[Job] = []
    began = time.process_time()
    for _ in range(5):
        shown = await store.queue.peek(Needs.of(_PLACEABLE), _TAKEN)
        assert len(shown) == _TAKEN
        jobs = [job.assigned(_WORKER, "here", _AT, host_id=_HOST) for job in shown]
        outcomes = await store.apply(
            [Advance(job, before.version) for job, before in zip(jobs, shown, strict=True)]
        )
        assert all(outcome.applied for outcome in outcomes)
        taken += jobs
    cost = (time.process_time() - began) / len(taken)
    await _put_back(store, taken)
    return cost


async def _put_back(store: SqliteStore, taken: list[Job]) -> None:
    back = [job.returned("put back", at=_AT, due_at=_AT) for job in taken]
    await store.apply([Advance(job, job.version - 1) for job in back])
    (due,) = await store.apply([MarkDue(_AT + timedelta(seconds=1))])
    assert len(due.jobs) == len(taken)


ROW = Row(
    "sqlite_queue", "a class of needs taken from SQLite, 1,000 and 1,000,000 pending", measure
)
