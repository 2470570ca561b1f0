"""The floor of a SQLite store: its own statements on a bare connection, a hundred jobs a commit."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import attrs

from benchmarks.stores import Synchronous, make_file
from hodei_core import JobSpec, JobState, Needs, Resources, Worker, WorkerId, WorkerState
from hodei_core.backends.sqlite.transaction import Transaction
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, IdSource
from hodei_core.ports import Accept, Advance, Change, JoinHost, PutWorker, Submission

_BATCH = 100
_AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
_HOST = HostId("bare")
_WORKER = WorkerId("bare-1")

Statement = tuple[bool, str, Any]
"""Whether it is run for many parameters, its text, and its parameters."""


class _Recorder(sqlite3.Connection):
    """Writes down what it is asked to execute."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.statements: list[Statement] = []

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.statements.append((False, sql, parameters))
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        self.statements.append((True, sql, list(parameters)))
        return super().executemany(sql, parameters)


def accepted(folder: Path, jobs: int) -> list[Statement]:
    """Return what the store executes to accept so many no-op jobs."""
    return _recorded(folder, [_accepts(_some(jobs))])


def lived(folder: Path, jobs: int) -> list[Statement]:
    """Return what the store executes to accept and assign so many no-op jobs, and to end them."""
    begun, ended = [], []
    for seq, submission in enumerate(_some(jobs), 1):
        taken = submission.job(seq).assigned(_WORKER, "bare", _AT, host_id=_HOST)
        final = taken.started(_AT).finished(JobState.SUCCEEDED, None, at=_AT, exit_code=0)
        begun.append(attrs.evolve(submission, attempt=taken.attempt))
        ended.append(Advance(final, taken.version))
    return _recorded(folder, [_accepts(begun), ended])


def _some(jobs: int) -> list[Submission]:
    ids = IdSource()
    return [Submission(id=ids.job_id(), spec=JobSpec(("true",)), at=_AT) for _ in range(jobs)]


def _accepts(submissions: Iterable[Submission]) -> list[Accept]:
    return [Accept((submission,)) for submission in submissions]


def _recorded(folder: Path, kinds: Sequence[Sequence[Change]]) -> list[Statement]:
    """Return what the store executes for changes: the first hundred of each kind, then more."""
    path = folder / "recorded.db"
    make_file(path)
    connection = sqlite3.connect(path, factory=_Recorder, isolation_level=None)
    classes: dict[Needs, int] = {}
    _commit(connection, _population(), classes)
    connection.statements.clear()
    for start in range(0, len(kinds[0]), _BATCH):
        for changes in kinds:
            _commit(connection, changes[start : start + _BATCH], classes)
    connection.close()
    path.unlink()
    return connection.statements


def _population() -> list[Change]:
    worker = Worker(
        id=_WORKER,
        provider="bare",
        state=WorkerState.READY,
        slots=1_000_000,
        resources=Resources(),
        ready_at=_AT,
        host_id=_HOST,
    )
    return [JoinHost(HostRecord(id=_HOST)), PutWorker(worker)]


def _commit(
    connection: sqlite3.Connection, changes: Sequence[Change], classes: dict[Needs, int]
) -> None:
    connection.execute("begin immediate")
    transaction = Transaction(connection, classes, writer=1)
    outcomes = transaction.make(changes)
    assert all(outcome.applied for outcome in outcomes)
    transaction.finish()
    connection.execute("commit")
    classes.update(transaction.added)


def replay(path: Path, synchronous: Synchronous, statements: Iterable[Statement]) -> float:
    """Execute recorded statements on a new file; return the seconds that they took."""
    make_file(path)
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    connection.execute(f"pragma synchronous = {synchronous}")
    _commit(connection, _population(), {})
    began = time.perf_counter()
    for many, sql, parameters in statements:
        (connection.executemany if many else connection.execute)(sql, parameters).fetchall()
    taken = time.perf_counter() - began
    connection.close()
    return taken
