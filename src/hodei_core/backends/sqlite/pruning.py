"""Deleting what is old, a slice at a time, in a transaction that somebody else begins and ends.

Runs in the thread of the writing connection.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hodei_core.retention import FAILED_STATES, Retention
from hodei_core.states import JobState

SEGMENT_BYTES = 64
"""What a segment of a log takes in the file besides its data, about."""

_SLICE_SEGMENTS = 2_000  # of logs, the most that a slice deletes
_SLICE_BYTES = 4 * 1024 * 1024  # of logs, likewise
FINAL = tuple(state.value for state in JobState if state.is_final)
_FAILED = tuple(state for state in FINAL if JobState(state) in FAILED_STATES)
_OTHERS = tuple(state for state in FINAL if state not in _FAILED)
_ALL = 1 << 62

_OLDEST = """
select * from (
    select j.seq, j.state, j.finished_at, b.last from jobs j left join log_bounds b on b.job = j.seq
    where j.state = ? and j.finished_at is not null and j.finished_at < ?
    order by j.finished_at limit ?
)
"""
_SEGMENTS = """
select last_seq, attempt, length(data) from logs where job = ? order by first_seq limit ?
"""
_LOST = "update log_bounds set lost = ?, lost_attempt = ?, bytes = bytes - ? where job = ?"
_NEXT_LOG = """
select seq, finished_at from jobs where seq = (select min(job) from logs where job > ?)
"""
_MICROSECOND = timedelta(microseconds=1)
_JOB = (
    "delete from log_bounds where job = ?",
    "delete from labels where seq = ?",
    "delete from keys where seq = ?",
    "delete from specs where seq = ?",
    "delete from jobs where seq = ?",
)


class Slice:
    """Deletes until it has done enough for one commit.

    A log that is dropped in part has its bounds moved in the same commit, and a job goes with
    the last of its log: whenever it ends, nothing is left that belongs to nothing.

    Args:
        connection: within a transaction.
        limit: the most jobs; None: no bound, on logs neither.
    """

    def __init__(self, connection: sqlite3.Connection, limit: int | None) -> None:
        self._sql = connection.execute
        self._many = connection.executemany
        self._jobs = _ALL if limit is None else limit
        self._segments = _ALL if limit is None else _SLICE_SEGMENTS
        self._bytes = _ALL if limit is None else _SLICE_BYTES
        self.deleted: Counter[str] = Counter()
        """Jobs by their state."""

        self.freed_bytes: int = 0
        """What the logs took that were deleted."""

        self.more: bool = False
        """Whether it stopped before it was done."""

    @property
    def count(self) -> int:
        """How many jobs were deleted."""
        return sum(self.deleted.values())

    def finished_before(self, before: int, states: Sequence[str] = FINAL) -> None:
        """Delete the jobs in these states that ended before an instant, the oldest first."""
        self._delete(self._oldest(states, before, self._jobs + 1))

    def retain(self, retention: Retention, now: int, *, jobs: int, log_bytes: int) -> None:
        """Delete what a policy does not keep; `jobs` have ended, logs take `log_bytes`."""
        if retention.max_age is not None:
            self.finished_before(now - retention.max_age // _MICROSECOND, _OTHERS)
        if retention.failed_max_age is not None:
            self.finished_before(now - retention.failed_max_age // _MICROSECOND, _FAILED)
        if retention.max_jobs is not None:
            excess = jobs - self.count - retention.max_jobs
            if excess > 0:
                self._delete(self._oldest(FINAL, _ALL, min(excess, self._jobs + 1)))
        if retention.max_log_bytes is not None:
            self._drop_logs(log_bytes - self.freed_bytes - retention.max_log_bytes)

    def _drop_logs(self, excess: int) -> None:
        """Drop logs of jobs that have ended, those submitted first, until enough is free."""
        job = 0
        while excess > 0:
            found = self._sql(_NEXT_LOG, (job,)).fetchone()
            if found is None:
                return
            job, finished_at = found
            if finished_at is None:
                continue
            before = self.freed_bytes
            whole = self._drop(job, excess)
            excess -= self.freed_bytes - before
            if not whole and excess > 0:
                self.more = True
                return

    def _oldest(self, states: Sequence[str], before: int, limit: int) -> list[Any]:
        each = " union all ".join(_OLDEST for _ in states)
        arguments = [argument for state in states for argument in (state, before, limit)]
        statement = f"{each} order by finished_at limit ?"
        return self._sql(statement, (*arguments, limit)).fetchall()

    def _delete(self, found: Sequence[Any]) -> None:
        gone: list[tuple[int]] = []
        for seq, state, _, last in found:
            if not self._jobs or (last is not None and not self._drop(seq)):
                self.more = True
                break
            gone.append((seq,))
            self._jobs -= 1
            self.deleted[state] += 1
        for statement in _JOB:
            self._many(statement, gone)

    def _drop(self, job: int, most: int = _ALL) -> bool:
        """Drop the beginning of a log, `most` bytes at least; return whether that is all of it."""
        found = self._sql(_SEGMENTS, (job, self._segments + 1)).fetchall()
        dropped = size = data = 0
        for _, _, length in found:
            if dropped == self._segments or size >= min(self._bytes, most):
                break
            dropped += 1
            data += length
            size += length + SEGMENT_BYTES
        if dropped:
            last, attempt, _ = found[dropped - 1]
            self._sql("delete from logs where job = ? and first_seq <= ?", (job, last))
            self._sql(_LOST, (last, attempt, data, job))
        self._segments -= dropped
        self._bytes -= size
        self.freed_bytes += size
        return dropped == len(found)
