"""A file with a million jobs: opened, recovered, and listed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import Rounds, take_turns
from benchmarks.stores import filled, new_files
from hodei_core import Execution, Hodei, Job, JobSpec, JobState, Output, Reason
from hodei_core.backends.memory import MemoryProvider
from hodei_core.backends.sqlite import SqliteStore, rows

_SPEC = JobSpec(("true",), name="some")
_HELD = 8  # jobs that a host ran which is gone
_PAGE = 100


def measure(quick: bool) -> list[Figure]:
    waiting, ended, listed = (100, 1_000, 200) if quick else (100_000, 1_000_000, 10_000)
    with new_files() as new_file:
        path = new_file()
        with filled(path) as filler:
            filler.ended(_SPEC, ended)
            filler.waiting(_SPEC, waiting)
        opened = asyncio.run(_opened(path, 1 if quick else 5))
        results = asyncio.run(_listed(path, listed, 1 if quick else 5))
    return [
        Figure(
            name="sqlite_file.open",
            what=(
                f"a file with {waiting:,} pending and {ended:,} finished jobs opened, and "
                f"{_HELD} jobs of a dead host rescued"
            ),
            unit="s",
            floor_is="nothing",
            floor=None,
            ours=opened,
            judged=Judged.OURS,
            value=opened,
            first=2.0,
            end=2.0,
        ),
        _listing("list", f"{listed:,} jobs of them listed at once", listed, results, 1),
        _listing("pages", f"{listed:,} jobs of them listed by {_PAGE}", listed, results, 2),
    ]


def _listing(name: str, what: str, jobs: int, results: Rounds, place: int) -> Figure:
    return Figure(
        name=f"sqlite_file.{name}",
        what=what,
        unit="jobs/s of CPU",
        floor_is="bare sqlite3, the same rows by one statement",
        floor=jobs / results.median(0),
        ours=jobs / results.median(place),
        judged=Judged.RATIO,
        value=results.median(0) / results.median(place),
        more_is_better=True,
    )


async def _opened(path: Path, rounds: int) -> float:
    """Return the seconds from the opening of the file until what a dead host ran is rescued."""

    async def once() -> float:
        held = await asyncio.to_thread(_hold, path)
        began = time.perf_counter()
        providers = [MemoryProvider(_blocked, name="gone")]
        async with Hodei(_keeping_all(path), providers=providers) as hodei:
            for job_id in held:
                result = await hodei.handle(job_id).wait(30)
                assert result.reason is Reason.WORKER_LOST
            taken = time.perf_counter() - began
            await hodei.drain()
        return taken

    return (await take_turns(rounds, once)).median(0)


def _keeping_all(path: Path) -> SqliteStore:
    """Return the store of a file whose jobs, which ended long ago, are not deleted meanwhile."""
    return SqliteStore(path, retention=None)


async def _blocked(execution: Execution, output: Output) -> None:
    del execution, output


def _hold(path: Path) -> list[str]:
    """Have some pending jobs run by a host that is gone; return them."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin immediate")
    found = connection.execute(
        f"select {rows.JOB_COLUMNS} from jobs j join specs s on s.seq = j.seq "
        "where j.queued = 1 order by j.seq limit ?",
        (_HELD,),
    ).fetchall()
    jobs = [rows.job(row) for row in found]
    for job in jobs:
        _run(connection, job)
    for state, delta in ((JobState.PENDING, -_HELD), (JobState.RUNNING, _HELD)):
        connection.execute(
            "update counts set jobs = jobs + ? where state = ?", (delta, state.value)
        )
    connection.execute("commit")
    connection.close()
    return [job.id for job in jobs]


def _run(connection: sqlite3.Connection, job: Job) -> None:
    at = rows.instant(job.submitted_at)
    attempts = (
        f'[{{"number":1,"worker":"gone-1","provider":"gone","assigned_at":{at},'
        f'"started_at":{at},"host":"gone"}}]'
    )
    connection.execute(
        "update jobs set state = 'running', waiting_for = null, queued = null, version = 3, "
        "started_at = ?, attempts = ?, attempt = 1, worker = 'gone-1', host = 'gone' "
        "where seq = ?",
        (at, attempts, job.seq),
    )


async def _listed(path: Path, jobs: int, rounds: int) -> Rounds:
    async with Hodei(_keeping_all(path), providers=[]) as hodei:

        async def floor() -> float:
            began = time.process_time()
            connection = sqlite3.connect(path)
            found = connection.execute(
                f"select {rows.JOB_COLUMNS} from jobs j join specs s on s.seq = j.seq "
                "order by j.seq desc limit ?",
                (jobs,),
            ).fetchall()
            connection.close()
            assert len(found) == jobs
            return time.process_time() - began

        async def at_once() -> float:
            began = time.process_time()
            assert len(await hodei.list_jobs(limit=jobs)) == jobs
            return time.process_time() - began

        async def by_pages() -> float:
            began = time.process_time()
            count, after = 0, None
            while count < jobs:
                page = await hodei.list_jobs(limit=_PAGE, after=after)
                count, after = count + len(page), page[-1].id
            return time.process_time() - began

        await at_once()
        return await take_turns(rounds, floor, at_once, by_pages)


ROW = Row("sqlite_file", "a SQLite file with 1,100,000 jobs opened, recovered and listed", measure)
