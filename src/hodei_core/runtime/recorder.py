"""Records how the attempts of this host start and end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

from hodei_core.clock import Clock
from hodei_core.endings import Ending, close_attempt
from hodei_core.executions import Exit
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.ports import Advance, AppendLogs, CancelRequest, Outcome
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.plan import Plan
from hodei_core.runtime.reporter import Reporter
from hodei_core.runtime.run import Run
from hodei_core.states import JobState, Reason

_RECORD_SECONDS = 0.05  # that a start may wait for another commit to ride with
_ROUNDING = 1e-6  # seconds: a timer may fire that much early
_START_SECONDS = 30.0  # that an assigned attempt may take to start
_UNBOUNDED = 1 << 62


class Recorder:
    """Knows every attempt under way and plans the changes that its start and end make."""

    def __init__(
        self,
        *,
        clock: Clock,
        deadlines: Deadlines,
        reporter: Reporter,
        durable: bool,
        wake: Callable[[], None],
        chance: Callable[[], float],
    ) -> None:
        self.runs: dict[JobId, Run] = {}
        self._clock = clock
        self._deadlines = deadlines
        self._reporter = reporter
        self._durable = durable
        self._wake = wake
        self._chance = chance
        self._ended: list[Run] = []
        self._starts: list[Run] = []
        self._starts_due = False
        self._record_armed = False
        self._watching = False

    def begin(self, run: Run) -> None:
        """Take note of an attempt that was given to its slot."""
        self.runs[run.job.id] = run
        if not self._watching:
            self._watching = True
            self._deadlines.after(_START_SECONDS, self._watch_starts)

    def started(self, run: Run) -> None:
        """Take note that an attempt runs; RUNNING rides with the next commit."""
        timeout = run.job.spec.timeout
        if timeout is not None:
            at = run.started_since + timeout.total_seconds()
            run.timeout = self._deadlines.at(at, partial(run.stop, Reason.TIMEOUT))
        self._starts.append(run)
        self._arm_record()

    def ended(self, run: Run) -> None:
        """Take note that an attempt ended."""
        self._ended.append(run)
        self._wake()

    def interrupt(self) -> None:
        """End every attempt, since the host shuts down."""
        for run in self.runs.values():
            run.interrupt()

    def _arm_record(self) -> None:
        # One timer at a time, however many attempts start and end before it fires.
        if self._starts and not self._record_armed:
            self._record_armed = True
            at = self._starts[0].started_since + _RECORD_SECONDS
            self._deadlines.at(at, self._record_starts)

    def _record_starts(self) -> None:
        self._record_armed = False
        self._starts = [run for run in self._starts if run.ending is None]
        now = self._clock.monotonic() + _ROUNDING
        self._starts_due = any(run.started_since + _RECORD_SECONDS <= now for run in self._starts)
        if self._starts_due:
            self._wake()
        else:
            self._arm_record()

    def _watch_starts(self) -> None:
        """End attempts that their worker does not start, looked at together."""
        oldest = self._clock.monotonic() - _START_SECONDS + _ROUNDING
        for run in self.runs.values():
            if run.started_at is None and run.assigned <= oldest:
                run.stop(Reason.WORKER_LOST)
        waiting = [run.assigned for run in self.runs.values() if run.started_at is None]
        later = [assigned for assigned in waiting if assigned > oldest]
        self._watching = bool(later)
        if later:
            self._deadlines.at(min(later) + _START_SECONDS, self._watch_starts)

    def plan_ends(
        self,
        plan: Plan,
        *,
        release: Callable[[Run], None],
        settled: Callable[[Run, Job, Outcome], None],
        refused: Callable[[Run], None],
    ) -> None:
        """Plan the end of each attempt that ended; its slot is free for the same commit."""
        ended, self._ended = self._ended, []
        for run in ended:
            release(run)
            log = run.log
            if log is not None:
                segments = log.unwritten(_UNBOUNDED)
                log.handed_over = bool(segments)
                if segments:
                    plan.add(
                        AppendLogs(run.job.id, segments), partial(self._wrote, run, len(segments))
                    )
            job = self._after(run)
            told = partial(self._settle_end, run, job, settled, refused)
            # A request that another process has stored may not have been heard here yet.
            unless = run.cause is not Reason.CANCELLED and not run.heeded
            plan.add(Advance(job, run.job.version, unless_cancelled=unless), told)

    def _wrote(self, run: Run, count: int, outcome: Outcome) -> None:
        del outcome
        assert run.log is not None  # noqa: S101 - it was written from
        run.log.wrote(count)

    def _after(self, run: Run) -> Job:
        ending = run.ending
        assert ending is not None  # noqa: S101 - it ended
        job = run.job
        if run.cause is not None:
            ending = _for_cause(ending, run.cause, run.cancel_message)
        if run.started_at is None:
            ending = _unseen_start(run, ending)
        if run.started_at is not None and not run.recorded_start:
            job = job.started(run.started_at)
        return close_attempt(
            job,
            ending,
            at=run.ended_at(),
            chance=self._chance(),
            durable=self._durable,
        )

    def closed(self, job: Job, ending: Ending) -> Job:
        """Return a job after its open attempt, which was of another host, ended so.

        An exit code implies the start, also where its host did not live to record that.
        """
        if job.state is JobState.ASSIGNED and ending.exit and ending.exit.code is not None:
            job = job.started(job.attempt.assigned_at)
        at = self._clock.now()
        if ending.at is not None:  # by the clock of another host, which may have been set since
            at = min(max(ending.at, job.attempt.started_at or ending.at), at)
        return close_attempt(job, ending, at=at, chance=self._chance(), durable=self._durable)

    def _settle_end(
        self,
        run: Run,
        job: Job,
        settled: Callable[[Run, Job, Outcome], None],
        refused: Callable[[Run], None],
        outcome: Outcome,
    ) -> None:
        if outcome.cancel is not None and not outcome.applied:
            self._heed(run, outcome.cancel)
            return
        del self.runs[run.job.id]
        if outcome.applied:
            stored, run.job = run.job, job
            self._reporter.ended(stored, job)
            settled(run, job, outcome)
        else:
            refused(run)

    def _heed(self, run: Run, request: CancelRequest) -> None:
        """Have an end stored that a cancel request, stored before, was in the way of: it wins."""
        run.heeded = True
        run.cause, run.cancel_message = Reason.CANCELLED, request.reason
        self._ended.append(run)
        self._wake()

    def plan_starts(self, plan: Plan) -> None:
        """Plan RUNNING for what has started, if there is a commit to ride with or it is time."""
        if not self._starts or not (plan or self._starts_due):
            return
        starts, self._starts = self._starts, []
        self._starts_due = False
        for run in starts:
            if run.ending is None and run.started_at is not None:
                job = run.job.started(run.started_at)
                plan.add(Advance(job, run.job.version), partial(self._settle_start, run, job))

    def _settle_start(self, run: Run, job: Job, outcome: Outcome) -> None:
        if outcome.applied:
            run.job = job
            run.recorded_start = True
            self._reporter.started(job)


def _unseen_start(run: Run, ending: Ending) -> Ending:
    """Return the ending of an attempt whose start nobody told of.

    An exit code implies the start. What was ended here without one never started.
    """
    if ending.exit is None or ending.never_started:
        return ending
    if ending.exit.code is not None:
        run.started_at = run.ended_at()
        return ending
    if ending.cause is Reason.WORKER_LOST:
        return ending
    why = ending.message or "it was ended before it started"
    cancelled = ending.cause is Reason.CANCELLED
    return attrs.evolve(ending, never_started=True, message=ending.message if cancelled else why)


def _for_cause(ending: Ending, cause: Reason, why: str | None) -> Ending:
    """Return the ending of an attempt that was being ended, or was wanted to be."""
    if cause is Reason.CANCELLED:
        return attrs.evolve(ending, cause=cause, message=why)
    if ending.cause is not None or (ending.never_started and cause is not Reason.INTERRUPTED):
        return ending
    if cause is Reason.WORKER_LOST:
        return Ending(exit=Exit(code=None), cause=cause, message="it was not started in time")
    return attrs.evolve(ending, cause=cause)
