"""A store's content, which outlives its hosts, and what must hold of every change to it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar

import anyio
import attrs

from hodei_core import job_events
from hodei_core.backends.memory import MemoryStore
from hodei_core.events import JobEvent
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Job
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
)
from hodei_core.states import JobState, Reason, check_transition
from hodei_core.workers import Worker, WorkerState
from tests.simulation.faults import InvariantError
from tests.simulation.history import History
from tests.simulation.shadow import Shadow

T = TypeVar("T")

_OPEN = (JobState.ASSIGNED, JobState.RUNNING)


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine that never waits returns."""
    try:
        call.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    msg = "it waited"
    raise AssertionError(msg)


class Disk:
    """Commits changes one batch at a time, and checks each."""

    def __init__(self, history: History, now: Callable[[], float], *, shadow: bool = False) -> None:
        self.shadow = Shadow(history.broken) if shadow else None
        self.model = MemoryStore()
        self.hosts: dict[HostId, HostRecord] = {}
        self.jobs: dict[JobId, Job] = {}
        self.workers: dict[WorkerId, Worker] = {}
        self.cancels: dict[JobId, CancelRequest] = {}
        self.covers: dict[JobId, tuple[HostId, datetime]] = {}
        self.readers: dict[object, anyio.Event] = {}
        """For each connection, what is set when another one has committed."""

        self.pruned: dict[JobId, None] = {}
        """The jobs that were deleted."""

        self.news: list[tuple[object, JobEvent | None, Needs | None]] = []
        """What was done to jobs: by which connection, and which class of needs changed by it."""

        self.may_be_gone: Callable[[WorkerId], bool] = lambda _: True
        """Whether a worker's row may be dropped: nothing of it is left outside."""

        self._history = history
        self._now = now

    def close(self) -> None:
        """Let go of the shadow."""
        if self.shadow is not None:
            self.shadow.close()

    def commit(self, changes: Sequence[Change], by: object) -> list[Outcome]:
        """Make the changes of a connection, all of them."""
        for reader, event in self.readers.items():
            if reader is not by:
                event.set()
        outcomes = [self._make(change, by) for change in changes]
        if self.shadow is not None:
            self.shadow.commit(changes, outcomes, by)
        return outcomes

    def _make(self, change: Change, by: object) -> Outcome:
        if isinstance(change, (JoinHost, RenewHost, RemoveHost)):
            return self._host(change)
        if isinstance(change, Cover):
            for job_id in change.job_ids:
                self.covers[job_id] = (change.host_id, change.until)
            return Outcome()
        if isinstance(change, Advance):
            return self._advance(change, by)
        if isinstance(change, AppendLogs) and not self._may_append(change):
            return Outcome(applied=False)
        if isinstance(change, RemoveWorker) and not self.may_be_gone(change.worker_id):
            msg = f"I7: the row of {change.worker_id} is dropped, but something of it is there"
            raise self._history.broken(msg)
        if isinstance(change, Accept):
            change = self._of_live_hosts(change)
        (outcome,) = at_once(self.model.apply([change]))
        self._follow(change, outcome, by)
        return outcome

    def _of_live_hosts(self, change: Accept) -> Accept:
        """Return a change without the attempts of hosts that were given up."""
        submissions = tuple(
            attrs.evolve(one, attempt=None)
            if one.attempt is not None and not self._is_live(one.attempt.host_id)
            else one
            for one in change.submissions
        )
        return attrs.evolve(change, submissions=submissions)

    def _follow(self, change: Change, outcome: Outcome, by: object) -> None:
        if isinstance(change, Accept):
            for job, new in zip(outcome.jobs, outcome.new, strict=False):
                if new:
                    self.jobs[job.id] = job
                    begun = job.state is JobState.ASSIGNED
                    needs = None if job.spec.delay or begun else Needs.of(job.spec)
                    self.news.append((by, job_events.submitted(job), needs))
                    self._check_key(job)
                    self._note(f"accepted {job.id[:8]}")
                    if begun:
                        self.news.append((by, job_events.assigned(job), None))
                        self._check_slots(job)
                        self._note(f"{job.id[:8]} v2 ASSIGNED {job.attempt.worker_id}")
        elif isinstance(change, RequestCancel):
            for job in outcome.jobs:
                if not job.state.is_final:
                    self.cancels.setdefault(job.id, change.request)
                    self._note(f"cancel requested {job.id[:8]}")
        elif isinstance(change, PutWorker):
            self.workers[change.worker.id] = change.worker
            self._note(f"worker {change.worker.id} {change.worker.state.name}")
        elif isinstance(change, RemoveWorker):
            self.workers.pop(change.worker_id, None)
            self._note(f"worker {change.worker_id} dropped")
        elif isinstance(change, Prune):
            for job_id in [each for each in self.jobs if each not in self.model._table]:
                if not self.jobs.pop(job_id).state.is_final:
                    msg = f"I19: {job_id} is pruned and was not final"
                    raise self._history.broken(msg)
                self.pruned[job_id] = None
                self._note(f"pruned {job_id[:8]}")
        elif isinstance(change, MarkDue):
            self.news += [(by, None, Needs.of(job.spec)) for job in outcome.jobs]
        for job in outcome.jobs:
            if not isinstance(change, RequestCancel):
                self.jobs[job.id] = job

    def _is_live(self, owner: HostId | None) -> bool:
        return owner is None or owner in self.hosts

    def _check_key(self, job: Job) -> None:
        key = job.spec.key
        if key is not None and any(
            other.spec.key == key and not other.state.is_final and other.id != job.id
            for other in self.jobs.values()
        ):
            msg = f"I12: key {key} is given to {job.id} beside another that has not ended"
            raise self._history.broken(msg)

    def _host(self, change: JoinHost | RenewHost | RemoveHost) -> Outcome:
        if isinstance(change, RemoveHost):
            record = self.hosts.get(change.host_id)
            if record is None or change.beat not in (None, record.beat):
                return Outcome(applied=False)
            del self.hosts[change.host_id]
            self._note(f"host {change.host_id[:6]} removed")
            return Outcome()
        record = change.record
        if isinstance(change, RenewHost) and record.id not in self.hosts:
            return Outcome(applied=False)
        if isinstance(change, JoinHost):
            self._note(f"host {record.id[:6]} joined")
        self.hosts[record.id] = record
        return Outcome()

    def _advance(self, change: Advance, by: object) -> Outcome:
        before, after = self.jobs.get(change.job.id), change.job
        owner = after.attempt.host_id if after.state is JobState.ASSIGNED else None
        if before is not None and not self._is_live(owner):
            return Outcome(applied=False, jobs=(before,))
        (outcome,) = at_once(self.model.apply([change]))
        if outcome.applied:
            assert before is not None
            try:
                check_change(before, after)
            except InvariantError as error:
                raise self._history.broken(str(error)) from None
            self.jobs[after.id] = after
            number = before.attempt.number if before.state in _OPEN else 0
            needs = Needs.of(before.spec) if before.state is JobState.PENDING else None
            events = job_events.moved(before.state, number, after)
            self.news += [(by, event, needs) for event in events]
            self.covers.pop(after.id, None)
            self._check_slots(after)
            if after.state.is_final:
                self.cancels.pop(after.id, None)
            worker = f" {after.attempt.worker_id}" if after.attempts else ""
            self._note(f"{after.id[:8]} v{after.version} {after.state.name}{worker}")
        return outcome

    def _check_slots(self, job: Job) -> None:
        if job.state is not JobState.ASSIGNED:
            return
        worker = self.workers.get(job.attempt.worker_id)
        if worker is None or worker.state not in (WorkerState.READY, WorkerState.DRAINING):
            msg = f"I4: {job.id} is assigned to {job.attempt.worker_id}, which takes no work"
            raise self._history.broken(msg)
        held = [
            other
            for other in self.jobs.values()
            if other.state in _OPEN and other.attempt.worker_id == worker.id
        ]
        if len(held) > worker.slots:
            msg = f"I5: worker {worker.id} has {len(held)} jobs on {worker.slots} slots"
            raise self._history.broken(msg)

    def _may_append(self, change: AppendLogs) -> bool:
        job = self.jobs.get(change.job_id)
        return (
            job is not None
            and job.state in _OPEN
            and all(segment.attempt == job.attempt.number for segment in change.segments)
        )

    def _note(self, text: str) -> None:
        self._history.note(self._now(), text)


def check_change(before: Job, after: Job) -> None:
    """Hold the invariants of one change of one job.

    Raises:
        InvariantError: it may not be made.
    """
    problem = None
    source, steps = before.state, 1
    if before.state is JobState.ASSIGNED and after.version == before.version + 2:
        source, steps = JobState.RUNNING, 2  # it ended before its start was written
    if before.state.is_final:
        problem = f"I1: it was final ({before.state.name}) and becomes {after.state.name}"
    elif after.version != before.version + steps:
        problem = f"I2: version {before.version} is followed by {after.version}"
    elif [a.number for a in after.attempts] != list(range(1, len(after.attempts) + 1)):
        problem = f"I3: its attempts are {[a.number for a in after.attempts]}"
    elif sum(a.finished_at is None for a in after.attempts) > 1:
        problem = "I3: two of its attempts are open"
    elif after.state.is_final and any(a.finished_at is None for a in after.attempts):
        problem = "I3: it is final and an attempt is open"
    elif sum(not a.uncounted for a in after.attempts) > after.spec.retry.max_attempts:
        problem = f"I3: it has {len(after.attempts)} attempts"
    if after.reason is Reason.PENDING_TIMEOUT and before.started_at is not None:
        problem = "its pending_timeout passed, and it had started"
    if problem is None:
        try:
            check_transition(source, after.state, _reason(after))
        except ValueError as error:
            problem = f"I2: {error}"
    if problem is not None:
        msg = f"{after.id}: {problem}"
        raise InvariantError(msg)


def _reason(job: Job) -> Any:
    if job.state.is_final:
        return job.reason
    if job.state is JobState.PENDING and job.attempts and job.attempts[-1].reason is not None:
        last = job.attempts[-1]
        return last.reason if not job.returns else None
    return None
