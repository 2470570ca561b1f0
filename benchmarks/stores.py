"""Files of SQLite stores, new ones and full ones."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import anyio.from_thread

from hodei_core import JobSpec, JobState, Needs
from hodei_core.backends.sqlite import SqliteStore, rows
from hodei_core.ids import HostId

Synchronous = Literal["FULL", "NORMAL"]

_AT = 1_767_225_600_000_000  # 2026-01-01, in microseconds
_NUMBERS = "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?)"
_WAITING = f"""
{_NUMBERS}
insert into jobs (id, state, waiting_for, version, needs, priority, queued, name, submitted_at,
    due_at)
select printf('%s-%08d', ?, i), 'pending', 'capacity', 1, ?, 0, 1, 'waiting', {_AT} + i, {_AT} + i
from n
"""
_ENDED = f"""
{_NUMBERS}
insert into jobs (id, state, version, needs, priority, name, submitted_at, due_at, started_at,
    finished_at, exit_code, attempts)
select printf('%s-%08d', ?, i), 'succeeded', 4, ?, 0, 'ended', {_AT} + i, {_AT} + i, {_AT} + i,
    {_AT} + i + 1000, 0, ?
from n
"""
_ATTEMPTS = (
    f'[{{"number":1,"worker":"gone-1","provider":"gone","assigned_at":{_AT},'
    f'"started_at":{_AT},"finished_at":{_AT + 1_000},"exit_code":0,"host":"gone"}}]'
)


@contextmanager
def folder() -> Iterator[Path]:
    """Give a directory that is there until the block is left."""
    with tempfile.TemporaryDirectory(prefix="hodei-benchmark-") as name:
        yield Path(name)


@contextmanager
def new_files() -> Iterator[Callable[[], Path]]:
    """Give what returns the name of another file at each call."""
    with folder() as within:
        names = (within / f"jobs-{number}.db" for number in itertools.count())
        yield lambda: next(names)


def make_file(path: Path) -> None:
    """Make the file of a store that holds nothing."""

    async def make() -> None:
        store = SqliteStore(path)
        await store.open(HostId("benchmark"))
        await store.close()

    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(make)


class Filler:
    """Puts many jobs into the file of a store at once, by statements of its own."""

    def __init__(self, path: Path) -> None:
        make_file(path)
        self._sql = sqlite3.connect(path, isolation_level=None)
        self._sql.execute("pragma journal_mode = off")  # the store goes back to its own
        self._sql.execute("pragma synchronous = off")
        self._kinds = 0

    def waiting(self, spec: JobSpec, count: int) -> None:
        """Add jobs that are due."""
        self._add(_WAITING, spec, count, (), JobState.PENDING)

    def ended(self, spec: JobSpec, count: int) -> None:
        """Add jobs that succeeded."""
        self._add(_ENDED, spec, count, (_ATTEMPTS,), JobState.SUCCEEDED)

    def _add(
        self, insert: str, spec: JobSpec, count: int, more: Sequence[str], state: JobState
    ) -> None:
        self._kinds += 1
        content = rows.needs_content(Needs.of(spec))
        self._sql.execute("begin")
        self._sql.execute("insert or ignore into needs (content) values (?)", (content,))
        ((needs,),) = self._sql.execute("select id from needs where content = ?", (content,))
        ((last,),) = self._sql.execute("select coalesce(max(seq), 0) from jobs")
        self._sql.execute(insert, (count, self._kinds, needs, *more))
        self._sql.execute(
            "insert into specs select seq, ?, null from jobs where seq > ?",
            (rows.spec_content(spec), last),
        )
        self._sql.execute("update counts set jobs = jobs + ? where state = ?", (count, state.value))
        self._sql.execute("commit")

    def close(self) -> None:
        """Let go of the file."""
        self._sql.close()


@contextmanager
def filled(path: Path) -> Iterator[Filler]:
    """Give what fills a new file."""
    with closing(Filler(path)) as filler:
        yield filler
