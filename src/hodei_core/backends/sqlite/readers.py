"""The reading sides of a SQLite store that show jobs, workers and hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio

from hodei_core.backends.sqlite import listing, rows
from hodei_core.backends.sqlite.unreadable import UNREADABLE, readable
from hodei_core.clock import Clock
from hodei_core.errors import JobNotFoundError, StoreInvalidError
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, JobId
from hodei_core.jobs import Job
from hodei_core.ports import (
    CancelRequest,
    HostRegistry,
    JobFilter,
    JobQueue,
    JobRepository,
    Needs,
    News,
    WorkerRegistry,
)
from hodei_core.states import JobState
from hodei_core.workers import Worker

Select = Callable[[str, Sequence[Any]], Awaitable[list[tuple[Any, ...]]]]
"""Returns the rows of a statement."""

# By order of `seq` all jobs would be looked through.
_HELD = (
    f"select {rows.JOB_COLUMNS} from jobs j indexed by jobs_held join specs s on s.seq = j.seq "
    f"where j.worker is not null and j.state in ('{JobState.ASSIGNED.value}', "
    f"'{JobState.RUNNING.value}')"
)
_PAGE = 1_000  # jobs read at once
_JOBS_A_TURN = 32  # made of rows before other tasks get their turn
_CLASSES = """
with recursive classes (needs) as (
    select min(needs) from jobs where queued = 1
    union all
    select (select min(needs) from jobs where queued = 1 and needs > classes.needs)
    from classes where classes.needs is not null
)
select n.content from classes c join needs n on n.id = c.needs
"""
_PEEK = f"""
{rows.JOBS}
where j.queued = 1 and j.needs = (select id from needs where content = ?)
    and (j.cover_host is null or j.cover_host in ({{mine}}) or j.cover_until <= ?
        or j.cover_host not in (select id from hosts))
order by j.priority desc, j.seq limit ? offset ?
"""
_POSITION = """
select
    (select count(*) from jobs o
        where o.queued = 1 and o.needs = j.needs and o.priority > j.priority)
    + (select count(*) from jobs o
        where o.queued = 1 and o.needs = j.needs and o.priority = j.priority and o.seq < j.seq)
from jobs j where j.id = ? and j.queued = 1
"""


async def jobs_of(found: Sequence[tuple[Any, ...]]) -> list[Job]:
    """Return the jobs of rows; those that cannot be read are left out, and told of once.

    Other tasks get their turn between a few of them.
    """
    jobs: list[Job] = []
    for start in range(0, len(found), _JOBS_A_TURN):
        if start:
            await anyio.sleep(0)
        some = found[start : start + _JOBS_A_TURN]
        jobs += readable("job", some, rows.job, lambda row: row[1])
    return jobs


class SqliteJobRepository(JobRepository):
    """Jobs by id and by filter; `list_rows` is for what may take long."""

    def __init__(self, select: Select, list_rows: Select) -> None:
        self._select = select
        self._list = list_rows

    async def get(self, job_id: JobId) -> Job | None:
        found = await self._select(f"{rows.JOBS} where j.id = ?", (rows.text(job_id),))
        if not found:
            return None
        try:
            return rows.job(found[0])
        except UNREADABLE as error:
            msg = f"job {job_id} is stored, and cannot be read: {error!r}"
            raise StoreInvalidError(msg, job_id=job_id) from error

    async def select(
        self, matching: JobFilter, *, limit: int | None, after: JobId | None = None
    ) -> list[Job]:
        before = None
        if after is not None:
            found = await self._select("select seq from jobs where id = ?", (rows.text(after),))
            if not found:
                msg = f"no job {after!r}"
                raise JobNotFoundError(msg, job_id=after)
            before = found[0][0]
        jobs: list[Job] = []
        while limit is None or len(jobs) < limit:
            most = _PAGE if limit is None else min(_PAGE, limit - len(jobs))
            found = await self._list(*listing.page(matching, before, most))
            jobs += await jobs_of(found)
            if len(found) < most:
                break
            before = found[-1][0]
        return jobs

    async def counts(self) -> Mapping[JobState, int]:
        found: dict[str, int] = dict(await self._select("select state, jobs from counts", ()))
        return {state: found.get(state.value, 0) for state in JobState}


class SqliteJobQueue(JobQueue):
    """What waits; `mine` returns the incarnations of the host that asks."""

    def __init__(self, select: Select, clock: Clock, mine: Callable[[], Sequence[HostId]]) -> None:
        self._select = select
        self._clock = clock
        self._mine = mine

    async def needs(self) -> list[Needs]:
        found = await self._select(_CLASSES, ())
        return readable("class of needs", found, lambda row: rows.needs(row[0]))

    async def peek(self, needs: Needs, limit: int) -> list[Job]:
        mine = [rows.text(host_id) for host_id in self._mine()]
        statement = _PEEK.format(mine=", ".join("?" * len(mine)))
        now = rows.instant(self._clock.now())
        return await self._first(statement, (rows.needs_content(needs), *mine, now), limit)

    async def _first(self, statement: str, arguments: Sequence[Any], limit: int) -> list[Job]:
        """Return the first jobs of a statement that can be read."""
        jobs: list[Job] = []
        seen = 0
        while len(jobs) < limit:
            most = limit - len(jobs)
            page = await self._select(statement, (*arguments, most, seen))
            jobs += await jobs_of(page)
            seen += len(page)
            if len(page) < most:
                break
        return jobs

    async def position(self, job_id: JobId) -> int | None:
        found = await self._select(_POSITION, (rows.text(job_id),))
        return int(found[0][0]) if found else None

    async def next_due(self) -> datetime | None:
        found = await self._select("select min(due_at) from jobs where queued = 2", ())
        first = found[0][0]
        due_at: datetime | None = rows.moment(first) if isinstance(first, int) else None
        return due_at

    async def overdue(
        self, before: datetime, after: tuple[datetime, int] | None, limit: int
    ) -> list[Job]:
        seen = (-1, 0) if after is None else (rows.instant(after[0]), after[1])
        return await self._first(
            f"{rows.JOBS} where j.queued = 1 and j.due_at <= ? and (j.due_at, j.seq) > (?, ?) "
            "order by j.due_at, j.seq limit ? offset ?",
            (rows.instant(before), *seen),
            limit,
        )

    async def expiring(self, after: tuple[datetime, int] | None, limit: int) -> list[Job]:
        seen = (-1, 0) if after is None else (rows.instant(after[0]), after[1])
        return await self._first(
            f"{rows.JOBS} where j.expires_at is not null and (j.expires_at, j.seq) > (?, ?) "
            f"and j.state = '{JobState.PENDING.value}' and j.started_at is null "
            "order by j.expires_at, j.seq limit ? offset ?",
            seen,
            limit,
        )


class SqliteWorkerRegistry(WorkerRegistry):
    """Workers, and the jobs that hold their slots."""

    def __init__(self, select: Select) -> None:
        self._select = select

    async def select(self) -> list[Worker]:
        return await workers(self._select)


async def workers(select: Select, where: str = "") -> list[Worker]:
    """Return workers, oldest first, with the jobs that hold their slots."""
    # One statement, so that slots and jobs are of one instant.
    found = await select(
        f"select {_OWN}, j.id from workers w left join jobs j on j.worker = w.id {where} "
        "order by w.seq, j.seq",
        (),
    )
    shown: dict[Any, tuple[tuple[Any, ...], list[JobId]]] = {}
    for *row, job_id in found:
        jobs = shown.setdefault(row[0], (tuple(row), []))[1]
        if job_id is not None:
            jobs.append(JobId(rows.plain(job_id)))
    return readable(
        "worker",
        shown.values(),
        lambda row: rows.worker(row[0], tuple(row[1])),
        lambda row: row[0][0],
    )


_OWN = ", ".join(f"w.{column.strip()}" for column in rows.WORKER_COLUMNS.split(","))


_NEWS = f"""
select {rows.TOLD_COLUMNS} from events e left join jobs j on j.seq = e.job
where e.id > ? and e.id <= ? {{which}} order by e.id
"""
_TOLD = f"and e.kind <> '{rows.DUE}'"
_TOUCHED = """
select content from needs where id in (
    select needs from events where id > ? and id <= ? and writer <> ? and needs is not null
) order by id
"""
_ENDS = f"and e.kind = '{rows.FINISHED}' and e.writer <> ?"
_NEWS_BOUNDS = "select coalesce(min(id), 0), coalesce(max(id), 0) from events"
_NEWS_PAGE = 512  # events looked at together


class SqliteHostRegistry(HostRegistry):
    """The hosts of the file; `noticed` returns when others have written."""

    def __init__(
        self,
        select: Select,
        noticed: Callable[[], Awaitable[None]],
        deaths: Callable[[], Awaitable[list[HostId]]],
        is_dead: Callable[[HostId], bool],
    ) -> None:
        self._select = select
        self._noticed = noticed
        self._deaths = deaths
        self._is_dead = is_dead
        self._heard = 0
        self._writer = 0

    async def begin(self, writer: int) -> None:
        """Begin to hear of what others do from now on; `writer` is our own number."""
        self._writer = writer
        self._heard = await self._newest()

    async def _newest(self) -> int:
        return int((await self._select("select coalesce(max(id), 0) from events", ()))[0][0])

    async def select(self) -> list[HostRecord]:
        found = await self._select("select id, beat, offers from hosts order by seq", ())
        return readable("host", found, rows.host, lambda row: row[0])

    async def others_wrote(self) -> None:
        await self._noticed()

    async def dead(self) -> list[HostId]:
        return [record.id for record in await self.select() if self._is_dead(record.id)]

    async def deaths(self) -> list[HostId]:
        return await self._deaths()

    async def news(self, *, everything: bool) -> News:
        ((oldest, newest),) = await self._select(_NEWS_BOUNDS, ())
        first = max(self._heard, oldest - 1)
        last = min(newest, first + _NEWS_PAGE)
        which, arguments = (_TOLD, ()) if everything else (_ENDS, (self._writer,))
        found = await self._select(_NEWS.format(which=which), (first, last, *arguments))
        touched = await self._select(_TOUCHED, (first, last, self._writer))
        of_stored = [row for row in found if row[0] is not None]  # the others' jobs were pruned
        missed, self._heard = first - self._heard + len(found) - len(of_stored), last
        return News(
            events=tuple(readable("event", of_stored, rows.told, lambda row: row[0])),
            needs=tuple(rows.needs(content) for (content,) in touched),
            missed=missed,
            more=last < newest,
        )

    async def abandoned_workers(self) -> list[Worker]:
        return await workers(
            self._select, "where w.host is null or w.host not in (select id from hosts)"
        )

    async def abandoned_jobs(self) -> list[Job]:
        return await jobs_of(
            await self._select(
                f"{_HELD} and (j.host is null or j.host not in (select id from hosts)) "
                "order by j.seq",
                (),
            )
        )

    async def cancel_requests(self, host_id: HostId) -> list[tuple[JobId, CancelRequest]]:
        found = await self._select(
            "select id, cancel_at, cancel_reason from jobs "
            "where cancel_at is not null and (state = 'pending' or host = ?) order by seq",
            (rows.text(host_id),),
        )
        return readable("cancel request of job", found, _request, lambda row: row[0])


def _request(row: tuple[Any, ...]) -> tuple[JobId, CancelRequest]:
    id_, at, reason = row
    return JobId(rows.plain(id_)), CancelRequest(at=rows.moment(at), reason=rows.plain(reason))
