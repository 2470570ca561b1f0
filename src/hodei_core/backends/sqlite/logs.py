"""The logs of a SQLite store, read."""

from __future__ import annotations

from hodei_core.backends.sqlite import rows
from hodei_core.backends.sqlite.readers import Select
from hodei_core.backends.sqlite.unreadable import UNREADABLE
from hodei_core.errors import StoreInvalidError
from hodei_core.ids import JobId
from hodei_core.logs import LogSegment
from hodei_core.ports import LogBounds, LogStore

_JOB = "(select seq from jobs where id = ?)"
_SIZED = f"select {rows.SEGMENT_COLUMNS} from logs where job = {_JOB}"
_PAGE = 256  # segments read at once


class SqliteLogStore(LogStore):
    """Segments by the number of their first entry; `list_rows` is for what may take long."""

    def __init__(self, select: Select, list_rows: Select) -> None:
        self._select = select
        self._list = list_rows

    async def bounds(self, job_id: JobId) -> LogBounds:
        found = await self._select(
            f"select last, lost, lost_attempt from log_bounds where job = {_JOB}",
            (rows.text(job_id),),
        )
        last, lost, lost_attempt = found[0] if found else (0, 0, 0)
        return LogBounds(last=last, lost=lost, lost_attempt=lost_attempt)

    async def read(self, job_id: JobId, *, after: int, max_bytes: int) -> list[LogSegment]:
        # The first is the last that begins at or before the wanted entry, if it reaches it.
        begin = "coalesce((select max(first_seq) from logs where job = ? and first_seq <= ?), 0)"
        return await self._read(
            job_id,
            f"and first_seq >= {begin.replace('job = ?', f'job = {_JOB}')} and last_seq > ? "
            "order by first_seq",
            (rows.text(job_id), after + 1, after),
            max_bytes,
        )

    async def read_back(self, job_id: JobId, *, before: int, max_bytes: int) -> list[LogSegment]:
        return await self._read(
            job_id, "and first_seq < ? order by first_seq desc", (before,), max_bytes
        )

    async def _read(
        self, job_id: JobId, which: str, arguments: tuple[object, ...], max_bytes: int
    ) -> list[LogSegment]:
        """Return segments up to `max_bytes`, at least one if there is any."""
        sizes = await self._list(
            f"select length(data) from logs where job = {_JOB} {which} limit {_PAGE}",
            (rows.text(job_id), *arguments),
        )
        count = size = 0
        for (length,) in sizes:
            size += length
            if count and size > max_bytes:
                break
            count += 1
        if not count:
            return []
        found = await self._list(
            f"{_SIZED} {which} limit ?", (rows.text(job_id), *arguments, count)
        )
        try:
            return [rows.segment(row) for row in found]
        except UNREADABLE as error:
            msg = f"the log of job {job_id} cannot be read: {error!r}"
            raise StoreInvalidError(msg, job_id=job_id) from error
