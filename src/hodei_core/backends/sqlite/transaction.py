"""What each change does to the tables, within a transaction that somebody else begins and ends.

All of it runs in the thread of the writing connection.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

from hodei_core import job_events
from hodei_core.backends.sqlite import rows
from hodei_core.backends.sqlite.pruning import FINAL, SEGMENT_BYTES, Slice
from hodei_core.backends.sqlite.slots import Slots
from hodei_core.backends.sqlite.unreadable import UNREADABLE, readable, tell
from hodei_core.errors import KeyConflictError, QueueFullError, StoreInvalidError
from hodei_core.events import JobEvent
from hodei_core.jobs import Attempt, Job
from hodei_core.logs import LogSegment, torn_segment
from hodei_core.ports import (
    Accept,
    Advance,
    AppendLogs,
    CancelRequest,
    Change,
    Cover,
    JoinHost,
    MarkDue,
    Needs,
    Outcome,
    Prune,
    PutWorker,
    RemoveHost,
    RemoveWorker,
    RenewHost,
    RequestCancel,
    Retain,
    Submission,
)
from hodei_core.ports.acceptance import makers
from hodei_core.states import JobState

_APPLIED = Outcome()
_REFUSED = Outcome(applied=False)
_PENDING = JobState.PENDING.value
_ASSIGNED = JobState.ASSIGNED
_OPEN = (JobState.ASSIGNED, JobState.RUNNING)

_CURRENT = """
select seq, needs, queued, state, version, attempt, worker, attempts, cancel_at, cancel_reason
from jobs where id = ?
"""
_INSERT = """
insert into jobs (id, state, waiting_for, version, needs, priority, queued, name,
    submitted_at, due_at, expires_at, retried_from, attempts, attempt, worker, host)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
update jobs set state = ?, waiting_for = ?, version = ?, queued = ?, due_at = ?,
    expires_at = ?, started_at = ?, finished_at = ?, reason = ?, message = ?, exit_code = ?,
    attempts = ?, returns = ?, phases = ?, attempt = ?, worker = ?, host = ?, cover_host = null,
    cover_until = null
where seq = ?
"""
_PUT_WORKER = """
insert into workers (id, provider, state, slots, resources, labels, image, ready_at, idle_since,
    host)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do update set provider = excluded.provider, state = excluded.state,
    slots = excluded.slots, resources = excluded.resources, labels = excluded.labels,
    image = excluded.image, ready_at = excluded.ready_at,
    idle_since = coalesce(idle_since, excluded.idle_since), host = excluded.host
"""
_APPEND = """
insert into logs (job, first_seq, last_seq, attempt, at, source, partial, data)
values (?, ?, ?, ?, ?, ?, ?, ?)
"""
_BOUND = """
insert into log_bounds (job, last, bytes) values (?, ?, ?)
on conflict (job) do update set last = excluded.last, bytes = bytes + excluded.bytes
"""
_EVENT = f"insert into events ({rows.EVENT_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DUE = f"""
insert into events (writer, job, version, kind, needs, at)
select ?, seq, version, '{rows.DUE}', needs, due_at from jobs where seq = ?
"""
_EVENTS_KEPT = 20_000
_TRIM = f"delete from events where id <= (select max(id) from events) - {_EVENTS_KEPT}"
_COUNT = "update counts set jobs = jobs + ? where state = ?"
_LOG_BYTES = "select bytes from totals where name = 'logs'"


class Transaction:
    """Makes changes one after another; `finish` before the commit writes what they add up to.

    `classes`: the numbers of classes of needs that are known; those that this one adds are in
    `added`, to be taken over if it is committed. `writer`: the number of this opening.
    """

    def __init__(
        self, connection: sqlite3.Connection, classes: dict[Needs, int], writer: int
    ) -> None:
        self._writer = writer
        self._events: list[tuple[Any, ...]] = []
        self._connection = connection
        self._sql = connection.execute
        self._many = connection.executemany
        self._classes = classes
        self.added: dict[Needs, int] = {}
        self._counts: defaultdict[str, int] = defaultdict(int)  # a Counter takes longer to make
        self._log_bytes = 0
        self._slots = Slots(connection.execute)

    def make(self, changes: Iterable[Change]) -> list[Outcome]:
        """Make changes in order; return an outcome for each."""
        return [_MAKE[type(change)](self, change) for change in changes]

    def finish(self) -> None:
        """Write the counts of jobs by state, the slots of workers, and what the rest adds up to."""
        self._slots.settle()
        if self._events:
            self._many(_EVENT, self._events)
        counts = [(delta, state) for state, delta in self._counts.items() if delta]
        if counts:
            self._many(_COUNT, counts)
        if self._log_bytes:
            self._sql("update totals set bytes = bytes + ? where name = 'logs'", (self._log_bytes,))

    @property
    def told(self) -> int:
        """How many events there are of it."""
        return len(self._events)

    def trim_events(self) -> None:
        """Delete the events that are too old; `finish` has been called."""
        self._sql(_TRIM)

    # Jobs

    def _stored(self, seq: int) -> tuple[Job, ...]:
        """Return a job as it is stored; nothing if it cannot be read."""
        found = self._sql(f"{rows.JOBS} where j.seq = ?", (seq,)).fetchall()
        return tuple(readable("job", found, rows.job, lambda row: row[1]))

    def _class(self, needs: Needs) -> int:
        number = self._classes.get(needs) or self.added.get(needs)
        if number is None:
            content = rows.needs_content(needs)
            found = self._sql("select id from needs where content = ?", (content,)).fetchone()
            if found is None:
                found = self._sql(
                    "insert into needs (content) values (?) returning id", (content,)
                ).fetchone()
            number = self.added[needs] = int(found[0])
        return number

    def _accept(self, change: Accept) -> Outcome:
        try:
            found = makers(change, self._holder, self._pending)
        except (KeyConflictError, QueueFullError, StoreInvalidError) as error:
            return Outcome(applied=False, error=error)
        jobs: list[Job] = []
        made: dict[str, Job] = {}
        for submission, maker in zip(change.submissions, found, strict=True):
            if maker is submission:
                made[submission.id] = self._insert(submission)
            jobs.append(maker if isinstance(maker, Job) else made[maker.id])
        return Outcome(jobs=tuple(jobs), new=tuple(map(is_, found, change.submissions)))

    def _holder(self, key: str) -> Job | None:
        found = self._sql("select seq from keys where key = ?", (rows.text(key),)).fetchone()
        if found is None:
            return None
        jobs = self._stored(found[0])
        if not jobs:
            msg = f"the job that holds the key {key!r} cannot be read"
            raise StoreInvalidError(msg)
        return jobs[0]

    def _pending(self) -> int:
        return self._count(_PENDING)

    def _count(self, state: str) -> int:
        row = self._sql("select jobs from counts where state = ?", (state,)).fetchone()
        return int(row[0]) + self._counts[state]

    def _insert(self, submission: Submission) -> Job:
        spec, attempt = submission.spec, submission.attempt
        job = submission.job(0)
        if attempt is not None and self._hold(attempt):
            job = submission.begun(job)
        else:
            attempt = None
        waiting_for = job.waiting_for
        needs, queued = self._class(Needs.of(spec)), rows.queued(job)
        cursor = self._sql(
            _INSERT,
            (
                rows.text(job.id),
                job.state.value,
                None if waiting_for is None else waiting_for.value,
                job.version,
                needs,
                spec.priority,
                queued,
                rows.text(spec.name),
                rows.instant(job.submitted_at),
                rows.instant(job.due_at),
                rows.instant(job.expires_at),
                rows.text(job.retried_from),
                rows.attempts_content(job.attempts),
                None if attempt is None else attempt.number,
                None if attempt is None else rows.text(attempt.worker_id),
                None if attempt is None else rows.text(attempt.host_id),
            ),
        )
        seq = cursor.lastrowid
        assert seq is not None  # noqa: S101 - an insert has one
        self._sql(
            "insert into specs (seq, content, stdin) values (?, ?, ?)",
            (seq, rows.spec_content(spec), spec.stdin),
        )
        if spec.key is not None:
            self._sql(
                "insert or replace into keys (key, seq) values (?, ?)", (rows.text(spec.key), seq)
            )
        if spec.labels:
            labels = [(rows.text(k), rows.text(v), seq) for k, v in spec.labels.items()]
            self._many("insert into labels (name, value, seq) values (?, ?, ?)", labels)
        self._counts[job.state.value] += 1
        self._tell(seq, needs if queued == rows.QUEUED else None, (job_events.submitted(job),))
        if attempt is not None:
            self._tell(seq, None, (job_events.assigned(job),))
        return job.numbered(seq)

    def _advance(self, change: Advance) -> Outcome:
        job = change.job
        current = self._sql(_CURRENT, (rows.text(job.id),)).fetchone()
        if current is None:
            return _REFUSED
        seq, needs, queued, state, version, number, worker, attempts, cancel_at, why = current
        if version != change.expected or (job.state is _ASSIGNED and not self._hold(job.attempt)):
            return Outcome(applied=False, jobs=self._stored(seq))
        cancel = None if cancel_at is None else self._request(job, cancel_at, why)
        if change.unless_cancelled and cancel is not None:
            return Outcome(applied=False, jobs=self._stored(seq), cancel=cancel)
        is_open = job.state in _OPEN
        attempt = job.attempts[-1] if job.attempts else None
        waiting_for, reason = job.waiting_for, job.reason
        self._sql(
            _UPDATE,
            (
                job.state.value,
                None if waiting_for is None else waiting_for.value,
                job.version,
                rows.queued(job),
                rows.instant(job.due_at),
                rows.instant(job.expires_at),
                rows.instant(job.started_at),
                rows.instant(job.finished_at),
                None if reason is None else reason.value,
                rows.text(job.message),
                job.exit_code,
                rows.attempts_content(job.attempts),
                rows.returns_content(job.returns),
                rows.phases_content(job.phases),
                attempt.number if is_open and attempt else None,
                rows.text(attempt.worker_id) if is_open and attempt else None,
                rows.text(attempt.host_id) if is_open and attempt else None,
                seq,
            ),
        )
        self._counts[state] -= 1
        self._counts[job.state.value] += 1
        waited = None if queued is None else needs
        self._tell(seq, waited, job_events.moved(JobState(state), number or 0, job))
        if worker is not None and not is_open:
            self._release(worker, attempts, job)
        if change.torn:
            self._tear(seq, job.attempt)
        if cancel_at is not None and job.state.is_final:
            self._sql(
                "update jobs set cancel_at = null, cancel_reason = null where seq = ?", (seq,)
            )
        return _APPLIED if cancel is None else Outcome(cancel=cancel)

    @staticmethod
    def _request(job: Job, at: int, why: rows.Text) -> CancelRequest | None:
        """Return the request that is stored with a job; None if it cannot be read."""
        try:
            return rows.cancel_request(at, why)
        except UNREADABLE as error:
            tell("cancel request of job", job.id, error)
            return None

    def _tell(self, seq: int, needs: int | None, events: Iterable[JobEvent]) -> None:
        """Note what is told to others; `needs`: the class whose queue changed."""
        self._events += [rows.event(self._writer, seq, needs, event) for event in events]

    def _hold(self, attempt: Attempt) -> bool:
        """Take a slot of the worker that an attempt is to run on; return whether there was one."""
        return self._slots.take(rows.text(attempt.worker_id), rows.text(attempt.host_id))

    def _release(self, worker: rows.Text, attempts: str, job: Job) -> None:
        """Give a slot back: the worker is idle since the attempt ended."""
        host = rows.text(job.attempts[-1].host_id) if job.attempts else None
        ended, assigned = rows.instant(job.finished_at), None
        if ended is None:
            before = _stored_attempts(attempts, len(job.attempts))
            if len(job.attempts) == len(before):
                ended = rows.instant(job.attempt.finished_at)
            else:  # it never started, so nobody knows when the slot became free again
                assigned = before[-1].get("assigned_at")
        self._slots.release(worker, host, ended, assigned)

    def _request_cancel(self, change: RequestCancel) -> Outcome:
        request = change.request
        at, reason = rows.instant(request.at), rows.text(request.reason)
        jobs: list[Job] = []
        for job_id in change.job_ids:
            found = self._sql(f"{rows.JOBS} where j.id = ?", (rows.text(job_id),)).fetchall()
            for job in readable("job", found, rows.job, lambda row: row[1]):
                jobs.append(job)
                if not job.state.is_final:
                    self._sql(
                        "update jobs set cancel_at = ?, cancel_reason = ? "
                        "where seq = ? and cancel_at is null",
                        (at, reason, job.seq),
                    )
        return Outcome(jobs=tuple(jobs))

    def _mark_due(self, change: MarkDue) -> Outcome:
        found = self._sql(
            f"{rows.JOBS} where j.queued = {rows.LATER} and j.due_at <= ? "
            "order by j.priority desc, j.seq",
            (rows.instant(change.now),),
        ).fetchall()
        jobs = readable("job", found, lambda row: rows.job(row).due(), lambda row: row[1])
        self._many(
            f"update jobs set queued = {rows.QUEUED}, waiting_for = 'capacity' where seq = ?",
            [(row[0],) for row in found],  # what cannot be read is nobody's, and no longer due
        )
        self._many(_DUE, [(self._writer, job.seq) for job in jobs])
        return Outcome(jobs=tuple(jobs))

    def _cover(self, change: Cover) -> Outcome:
        host, until = rows.text(change.host_id), rows.instant(change.until)
        self._many(
            "update jobs set cover_host = ?, cover_until = ? where id = ? and state = 'pending'",
            [(host, until, rows.text(job_id)) for job_id in change.job_ids],
        )
        return _APPLIED

    def _prune(self, change: Prune) -> Outcome:
        pruned = Slice(self._connection, change.limit)
        pruned.finished_before(rows.instant(change.before) or 0)
        return self._sliced(pruned)

    def _retain(self, change: Retain) -> Outcome:
        done = Slice(self._connection, change.limit)
        done.retain(
            change.retention,
            rows.instant(change.now) or 0,
            jobs=sum(self._count(state) for state in FINAL),
            log_bytes=self._sql(_LOG_BYTES).fetchone()[0] + self._log_bytes,
        )
        return self._sliced(done)

    def _sliced(self, done: Slice) -> Outcome:
        for state, count in done.deleted.items():
            self._counts[state] -= count
        self._log_bytes -= done.freed_bytes
        return Outcome(count=done.count, more=done.more)

    # Logs

    def _append_logs(self, change: AppendLogs) -> Outcome:
        row = self._sql(
            "select j.seq, j.attempt, coalesce(b.last, 0) "
            "from jobs j left join log_bounds b on b.job = j.seq where j.id = ?",
            (rows.text(change.job_id),),
        ).fetchone()
        if row is None:
            return _REFUSED
        seq, attempt, last = row
        if any(segment.attempt != attempt for segment in change.segments):
            return _REFUSED
        new = [segment for segment in change.segments if segment.first_seq > last]
        if new:
            self._write(seq, new)
        return _APPLIED

    def _tear(self, seq: int, attempt: Attempt) -> None:
        """Note that the end of what an attempt printed may be missing."""
        found = self._sql("select last from log_bounds where job = ?", (seq,)).fetchone()
        last = 0 if found is None else found[0]
        assert attempt.finished_at is not None  # noqa: S101 - it has ended
        torn = torn_segment(attempt=attempt.number, seq=last + 1, at=attempt.finished_at)
        self._write(seq, [torn])

    def _write(self, seq: int, new: list[LogSegment]) -> None:
        self._many(
            _APPEND,
            [
                (
                    seq,
                    segment.first_seq,
                    segment.last_seq,
                    segment.attempt,
                    rows.instant(segment.at),
                    segment.source.value,
                    segment.partial,
                    segment.data,
                )
                for segment in new
            ],
        )
        size = sum(len(segment.data) for segment in new)
        self._sql(_BOUND, (seq, new[-1].last_seq, size))
        self._log_bytes += size + SEGMENT_BYTES * len(new)

    # Workers and hosts

    def _put_worker(self, change: PutWorker) -> Outcome:
        self._slots.settle()
        worker = change.worker
        ready_at = rows.instant(worker.ready_at)
        self._sql(
            _PUT_WORKER,
            (
                rows.text(worker.id),
                rows.text(worker.provider),
                worker.state.value,
                worker.slots,
                rows.resources_content(worker.resources),
                rows.labels_content(worker.labels),
                rows.text(worker.image),
                ready_at,
                ready_at,
                rows.text(worker.host_id),
            ),
        )
        return _APPLIED

    def _remove_worker(self, change: RemoveWorker) -> Outcome:
        self._slots.settle()
        self._sql("delete from workers where id = ?", (rows.text(change.worker_id),))
        return _APPLIED

    def _join_host(self, change: JoinHost) -> Outcome:
        self._slots.settle()
        record = change.record
        self._sql(
            "insert into hosts (id, beat, offers) values (?, ?, ?) "
            "on conflict (id) do update set beat = excluded.beat, offers = excluded.offers",
            (rows.text(record.id), record.beat, rows.offers_content(record.offers)),
        )
        return _APPLIED

    def _renew_host(self, change: RenewHost) -> Outcome:
        record = change.record
        renewed = self._sql(
            "update hosts set beat = ?, offers = ? where id = ?",
            (record.beat, rows.offers_content(record.offers), rows.text(record.id)),
        ).rowcount
        return _APPLIED if renewed else _REFUSED

    def _remove_host(self, change: RemoveHost) -> Outcome:
        self._slots.settle()
        removed = self._sql(
            "delete from hosts where id = ? and beat = coalesce(?, beat)",
            (rows.text(change.host_id), change.beat),
        ).rowcount
        return _APPLIED if removed else _REFUSED


def _stored_attempts(content: Any, count: int) -> list[dict[str, Any]]:
    """Return attempts as they are stored; as many empty ones, if they cannot be read."""
    try:
        found = json.loads(content)
        if found and all(isinstance(each, dict) for each in found) and len(found) >= count:
            return list(found)
    except UNREADABLE as error:
        tell("attempts", content, error)
    return [{}] * max(count, 1)


_MAKE: dict[type[Any], Callable[[Transaction, Any], Outcome]] = {
    Accept: Transaction._accept,
    Advance: Transaction._advance,
    AppendLogs: Transaction._append_logs,
    Cover: Transaction._cover,
    JoinHost: Transaction._join_host,
    MarkDue: Transaction._mark_due,
    Prune: Transaction._prune,
    PutWorker: Transaction._put_worker,
    RemoveHost: Transaction._remove_host,
    RemoveWorker: Transaction._remove_worker,
    RenewHost: Transaction._renew_host,
    RequestCancel: Transaction._request_cancel,
    Retain: Transaction._retain,
}
