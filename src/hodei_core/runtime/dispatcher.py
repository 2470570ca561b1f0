"""The dispatcher: the one task that moves jobs.

Each of its steps gathers what happened (attempts that ended, requests, deadlines), decides
what follows, writes all of it in one transaction, and tells about it afterwards. What decides is
in modules of its own; what is here is the state of that one task, and who may touch it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import anyio
import attrs

from hodei_core.clock import Clock
from hodei_core.endings import Ending
from hodei_core.events import JobFinished
from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Attempt, Job
from hodei_core.phases import WaitLog
from hodei_core.ports import (
    Advance,
    CancelRequest,
    Change,
    HostRegistry,
    JobFilter,
    Needs,
    News,
    Outcome,
    Store,
    Submission,
)
from hodei_core.runtime.arrivals import Arrivals
from hodei_core.runtime.assigner import Assigner
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.fleet import Fleet
from hodei_core.runtime.interrupts import wait_for
from hodei_core.runtime.log_buffer import LogBuffer
from hodei_core.runtime.log_writer import LogWriter
from hodei_core.runtime.patience import insist, stored
from hodei_core.runtime.plan import Plan
from hodei_core.runtime.recorder import Recorder
from hodei_core.runtime.reporter import Reporter
from hodei_core.runtime.run import Run
from hodei_core.runtime.slot import Slot
from hodei_core.runtime.unstarted import Unstarted
from hodei_core.runtime.waiters import Printed, Waiters
from hodei_core.runtime.waiting import Waiting
from hodei_core.scheduling.decisions import Wait
from hodei_core.scheduling.scheduler import Scheduler
from hodei_core.states import JobState, Reason

_SAFETY_SECONDS = 0.5  # between looks while work waits: bounds the cost of a missed wake-up
_PRINTED_BYTES = 128 * 1024  # that whoever waits is handed, instead of reading them back
_CLOSE_BATCH = 500  # pending jobs ended at once when a memory store closes


class Dispatcher:
    """Moves jobs: assigns, records starts and ends, retries, cancels, expires."""

    def __init__(
        self,
        *,
        store: Store,
        scheduler: Scheduler,
        clock: Clock,
        deadlines: Deadlines,
        fleet: Fleet,
        reporter: Reporter,
        logs: LogWriter,
        waiters: Waiters,
        stuck_after: timedelta | None,
        explain: Callable[[Job], Awaitable[str]],
        chance: Callable[[], float],
        others_could: Callable[[Needs], bool],
        dispatching: bool,
    ) -> None:
        self._dispatching = dispatching
        self._draining = False
        self._paused = False
        self._interrupting = False
        self._store = store
        self._clock = clock
        self._deadlines = deadlines
        self._fleet = fleet
        self._reporter = reporter
        self._logs = logs
        self._waiters = waiters
        self._explain = explain
        self._wake_up = anyio.Event()
        self._woken = False
        self._stepped: anyio.Event | None = None
        self._cancels: dict[JobId, str | None] = {}
        self._ticking = False
        self._rescued: dict[JobId, tuple[Job, Ending]] = {}
        self._others_wrote = False
        self._looking = False
        """Whether what others wrote is being looked at."""

        self._all_unsure = False
        self._untold = False
        """Whether something was done here that a shared store has not been asked to tell."""

        self._recorder = Recorder(
            clock=clock,
            deadlines=deadlines,
            reporter=reporter,
            durable=store.durable,
            wake=self.wake,
            chance=chance,
        )
        self._assigner = Assigner(
            queue=store.queue,
            scheduler=scheduler,
            fleet=fleet,
            clock=clock,
            deadlines=deadlines,
            wake=self.wake,
            assigned=self._begin,
            ended=self._end_unstarted,
            shared=store.hosts is not None,
            others_could=others_could,
        )
        self._arrivals = Arrivals(jobs=store.jobs, hold=self._hold, let_go=self._assigner.let_go)
        self._unstarted = Unstarted(
            jobs=store.jobs,
            clock=clock,
            discard=self._assigner.discard,
            waited=self._assigner.waited,
            ended=self._end_unstarted,
        )
        self._waiting = Waiting(
            store=store,
            clock=clock,
            deadlines=deadlines,
            stuck_after=stuck_after,
            wake=self.wake,
            unsure=self.look_at_all,
        )

    # What others tell it; nothing of this waits

    def wake(self) -> None:
        """Have it take a step."""
        if not self._woken:
            self._woken = True
            self._wake_up.set()

    def announce(self, submissions: tuple[Submission, ...]) -> tuple[Submission, ...]:
        """Take note of jobs that are about to be stored, and return them as they may be.

        What became of them is told by `accepted` or `unanswered`.
        """
        return self._arrivals.announce(submissions)

    def accepted(self, submissions: tuple[Submission, ...], outcome: Outcome) -> None:
        """Take note of what jobs were stored as."""
        all_begin = True
        for submission, job, new in zip(submissions, outcome.jobs, outcome.new, strict=True):
            begins = self._arrivals.settle(submission, job)
            if new:
                self._reporter.submitted(job)
            if begins:
                self._begin(job)
            else:
                all_begin = False
                if new:
                    self._enqueue(job)
        self._arrivals.over(submissions)
        self._untold = True
        if not all_begin or self._reporter.heard:  # a slot that was held for one may be free again
            self.wake()

    def unanswered(self, submissions: tuple[Submission, ...], *, refused: bool) -> None:
        """Take note that jobs may have been stored or not; `refused`: that they were not."""
        if refused:
            self._arrivals.refuse(submissions)
        self._arrivals.over(submissions)
        self.wake()

    def cancel(self, job_id: JobId, reason: str | None) -> None:
        """Follow a cancel request that was stored with a job."""
        run = self._recorder.runs.get(job_id)
        if run is not None:
            run.cancel(reason)
        else:
            self._cancels.setdefault(job_id, reason)
            self.wake()

    def fleet_changed(self) -> None:
        """Take note that a worker came or went, or a provider can be asked again."""
        self._assigner.fleet_changed()
        self.wake()

    def pause(self, paused: bool) -> None:
        """Assign nothing and have no worker made for a while, whatever else is told; or again."""
        self._paused = paused
        self._fleet.rest(paused or self._draining)
        self.wake()

    def others_wrote(self) -> None:
        """Take note that others have changed the store, which tells what they did."""
        self._others_wrote = True
        self.wake()

    def look_at_all(self) -> None:
        """Take note that the store may have changed in ways that nothing tells of."""
        self._all_unsure = True
        self.others_wrote()

    def store_gone(self) -> None:
        """Have all who wait or read ask the store, which refuses them: it was deleted."""
        self._waiters.all_look_again()
        runs = self._recorder.runs
        self._logs.refresh({job_id for job_id in runs if runs[job_id].ending is None})
        self.tell_watchers()

    def stop_here(self, job_id: JobId, why: str) -> None:
        """End the attempt of a job, if it is one of this host, though no request is stored."""
        run = self._recorder.runs.get(job_id)
        if run is not None:
            run.cancel(why)

    def rescue(self, job: Job, ending: Ending) -> None:
        """Write the end of an attempt of a dead host, unless somebody else does first."""
        self._rescued[job.id] = (job, ending)
        self.wake()

    def run_started(self, run: Run) -> None:
        """Take note that an attempt runs."""
        self._recorder.started(run)

    def run_ended(self, run: Run, slot: Slot) -> None:
        """Take note that an attempt ended, and its slot is idle."""
        self._fleet.put_slot(run.worker_id, slot)
        self._recorder.ended(run)

    def interrupt(self) -> None:
        """Assign no more, and end every attempt: the host shuts down."""
        self.draining = True
        self._interrupting = True
        self._recorder.interrupt()

    # What others ask it

    @property
    def draining(self) -> bool:
        """Whether nothing is assigned any more, and no worker made."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        if draining != self._draining:
            self._draining = draining
            self._assigner.draining(("the host was draining",) if draining else None)
            self._fleet.rest(draining or self._paused)

    @property
    def behind(self) -> bool:
        """Whether others have written what was not looked at yet."""
        return self._others_wrote

    @property
    def running(self) -> int:
        """How many attempts are under way, or about to be."""
        return len(self._recorder.runs) + self._assigner.underway + len(self._arrivals)

    @property
    def executing(self) -> bool:
        """Whether an attempt has not ended yet; those that have may still be to be recorded.

        What a lost worker had does not count: it ends when the loss is recorded, or at the close.
        """
        runs = self._recorder.runs.values()
        return any(
            run.ending is None and self._fleet.loss_of(run.worker_id) is None for run in runs
        )

    def waits_of(self, needs: Needs) -> WaitLog | None:
        """Return what jobs with these needs wait for, and since when; None if there are none."""
        return self._assigner.log_of(needs)

    def kept_for(self) -> dict[WorkerId, Job]:
        """Return the workers that are kept, each with the job that it is kept for."""
        return self._assigner.kept_for()

    def waits_for(self, needs: Needs) -> Wait | None:
        """Return why jobs with these needs wait, as it was decided; None if it was not."""
        return self._assigner.waits_for(needs)

    def tell_watchers(self) -> None:
        """Have everybody in `until` look again."""
        if self._stepped is not None:
            self._stepped.set()
            self._stepped = None

    async def until(self, met: Callable[[], Awaitable[bool]]) -> None:
        """Return when a condition is met, which is asked now and after each step."""
        while True:
            if self._stepped is None:
                self._stepped = anyio.Event()
            stepped = self._stepped
            if await met():
                return
            await wait_for(stepped)

    # Its loop

    async def load(self) -> None:
        """Take up what the store holds."""
        await self._load()
        self.wake()

    async def _load(self) -> None:
        if self._dispatching:
            await self._assigner.load_all()
        await self._waiting.load()

    async def run(self) -> None:
        """Take a step whenever woken, for ever."""
        while True:
            await self._wake_up.wait()
            self._wake_up = anyio.Event()
            self._woken = False
            await self._step()
            self.tell_watchers()

    async def _step(self) -> None:
        for job in await self._arrivals.find_out():
            self._reporter.submitted(job)
            self._begin(job)
        for job in await self._waiting.came_due():
            self._enqueue(job)
        if self._dispatching or self._reporter.heard:  # a client runs no jobs: who asks is told
            await self._waiting.tell_stuck(self._tell_stuck)
        if self._others_wrote:
            self._looking = True
            await self._look_around()
            self._looking = False
        plan = Plan()
        self._plan_rescues(plan)
        await self._plan_requests(plan)
        if not self._idle:
            await self._assigner.refill()
        # From here on nothing is awaited: an attempt that ended meanwhile would end after the next
        # one of its job begins.
        self._recorder.plan_ends(
            plan,
            release=self._release,
            settled=self._settle_end,
            refused=self._forsake,
        )
        if not self._idle:
            self._assigner.plan(plan)
        self._recorder.plan_starts(plan)
        if plan:
            plan.settle(await self._apply(plan.changes))
            self._untold = True
        if self._untold and self._reporter.heard and self._store.hosts is not None:
            await self._hear(self._store.hosts)
        if not self._idle and self._assigner.has_work():
            self.wake()
        self._arm_safety()

    @property
    def _idle(self) -> bool:
        return self._draining or self._paused

    async def _apply(self, changes: list[Change]) -> list[Outcome]:
        calls = 0

        async def apply() -> list[Outcome]:
            nonlocal calls
            calls += 1
            return await self._store.apply(changes)

        outcomes = await insist(apply, "apply changes")
        if calls == 1:
            return outcomes
        # A call that seemed to fail may have been stored: its changes are ours, not another's.
        return [
            attrs.evolve(outcome, applied=True) if _is_stored(change, outcome) else outcome
            for change, outcome in zip(changes, outcomes, strict=True)
        ]

    def _arm_safety(self) -> None:
        if not self._ticking and not self._idle and self._assigner.has_jobs():
            self._ticking = True
            self._deadlines.after(_SAFETY_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._arm_safety()  # before the deadlines go to sleep until another one
        self._assigner.fleet_changed()
        self.wake()

    # What its steps do

    def _enqueue(self, job: Job) -> None:
        if self._waiting.add(job) and self._dispatching:
            self._assigner.add(job)

    def _hold(self, job: Job) -> Attempt | None:
        if self._idle or not self._dispatching or self._others_wrote or self._looking:
            return None
        return self._assigner.hold(job)

    def _begin(self, job: Job, request: CancelRequest | None = None) -> None:
        """Hand a stored assignment to a slot, unless it is unwanted by now."""
        self._waiting.discard(job.id)
        self._reporter.assigned(job)
        run = Run(self, job, job.attempt.worker_id)
        self._recorder.begin(run)
        slot = self._fleet.take_slot(run.worker_id)
        if slot is None:
            run.ended(Ending(never_started=True, message="its worker is gone"))
            self._recorder.ended(run)
            return
        slot.give(run)
        if request is not None:
            run.cancel(request.reason)
        if job.id in self._cancels:  # it came before this was known
            run.cancel(self._cancels.pop(job.id))
        if self._interrupting:
            run.interrupt()

    def _release(self, run: Run) -> None:
        """Let go of the slot of an attempt whose end is about to be stored."""
        if run.heeded:  # it was let go when that was refused; who was refused its slot tries again
            self._assigner.fleet_changed()
        else:
            self._assigner.release(run.job)

    def _settle_end(self, run: Run, job: Job, outcome: Outcome) -> None:
        if job.state.is_final:
            self._finish(job, partial(_printed_by, run, job))
            return
        self._enqueue(job)
        if outcome.cancel is not None:
            self.cancel(job.id, outcome.cancel.reason)

    def _forsake(self, run: Run) -> None:
        """Follow the end of an attempt that another host has closed before."""
        if run.log is not None:
            self._logs.forsake(run.log)
        self._waiters.look_again(run.job.id)  # of a job that is pruned by now nobody tells

    def _finish(self, job: Job, printed: Callable[[], Printed] = lambda: None) -> None:
        """Let everybody go who was there for a job that is final."""
        self._waiting.discard(job.id)
        self._logs.close(job.id)
        self._waiters.wake(job, printed)

    def _end_unstarted(self, job: Job) -> None:
        """Follow the end of a job that was PENDING."""
        self._reporter.finished(job)
        self._finish(job)

    async def _look_around(self) -> None:
        """Take up what other hosts wrote: new jobs, requests, ends."""
        self._others_wrote = False
        if self._all_unsure:
            self._all_unsure = False
            await self._load()
            self._assigner.fleet_changed()
        else:
            await self._waiting.load()
        hosts = self._store.hosts
        if hosts is not None:
            list_requests = partial(hosts.cancel_requests, self._fleet.host_id)
            for job_id, request in await insist(list_requests, "list cancel requests"):
                self.cancel(job_id, request.reason)
            await self._hear(hosts)
            self._logs.refresh(self._recorder.runs)

    async def _hear(self, hosts: HostRegistry) -> None:
        """Tell of what was done to jobs, and wake those who wait for what others ended."""
        self._untold = False
        more = True
        while more:
            tell = partial(hosts.news, everything=self._reporter.heard)
            news = await insist(tell, "tell what was done")
            more = news.more
            self._reporter.news(news)
            if news.missed:
                self.look_at_all()
            elif self._dispatching:
                await self._assigner.load(news.needs)
            for job_id in self._waited_for(news):
                job = await stored(self._store.jobs, job_id)
                if job is None:  # pruned since, or it cannot be read: the store tells who asks
                    self._waiters.look_again(job_id)
                elif job.state.is_final:
                    self._finish(job)

    def _waited_for(self, news: News) -> list[JobId]:
        """Return the jobs that somebody waits for and that others may have ended."""
        waited_for = self._waiters.ids()
        if news.missed:
            ended = waited_for.keys() - self._recorder.runs.keys()
        else:
            told = {event.job_id for event in news.events if isinstance(event, JobFinished)}
            ended = told & waited_for.keys()
        return sorted(ended)

    def _plan_rescues(self, plan: Plan) -> None:
        rescued, self._rescued = self._rescued, {}
        for job, ending in rescued.values():
            closed = self._recorder.closed(job, ending)
            # What its host had not written is gone with it; nobody knows how much that was.
            change = Advance(
                closed,
                job.version,
                torn=not ending.never_started,
                unless_cancelled=ending.cause is not Reason.CANCELLED,
            )
            plan.add(change, partial(self._settle_rescue, job, ending, closed))

    def _settle_rescue(self, job: Job, ending: Ending, closed: Job, outcome: Outcome) -> None:
        if outcome.cancel is not None and not outcome.applied:
            why = outcome.cancel.reason
            self.rescue(job, attrs.evolve(ending, cause=Reason.CANCELLED, message=why))
        elif outcome.applied:
            self._reporter.ended(job, closed)
            if closed.state.is_final:
                self._finish(closed)
            else:
                self._enqueue(closed)

    async def _tell_stuck(self, job: Job) -> None:
        why = await insist(lambda: self._explain(job), "explain a job")
        self._reporter.stuck(job, self._clock.now(), why)

    async def _plan_requests(self, plan: Plan) -> None:
        """Plan the end of jobs that wait and were cancelled, or have waited too long."""
        expired = self._waiting.take_expired() + await self._waiting.take_strangers()
        for job_id in expired:
            await self._unstarted.plan_expiry(plan, job_id)
        cancels, self._cancels = self._cancels, {}
        for job_id, why in cancels.items():
            run = self._recorder.runs.get(job_id)
            if run is not None:
                run.cancel(why)
            elif job_id in self._arrivals:  # it may be stored as assigned: when that is known
                self._cancels[job_id] = why
            else:
                await self._unstarted.plan_cancel(plan, job_id, why)

    async def end_pending(self) -> int:
        """End what a memory store still holds as PENDING; return how many that were.

        Raises:
            HodeiError: the store refuses.
        """
        count = 0
        pending = JobFilter(states=frozenset({JobState.PENDING}))
        # All at once: each further look would scan what the ones before it have ended.
        while jobs := await self._store.jobs.select(pending, limit=None):
            for start in range(0, len(jobs), _CLOSE_BATCH):
                plan = Plan()
                for job in jobs[start : start + _CLOSE_BATCH]:
                    self._unstarted.plan_interruption(plan, job)
                plan.settle(await self._store.apply(plan.changes))
                await anyio.sleep(0)
            count += len(jobs)
        return count

    # What its runs and slots ask of it

    async def prepare(self, run: Run) -> None:
        """Have the numbers of the run's log follow on those of the attempts before it."""
        job = run.job
        if job.attempt.number == 1:
            return
        if self._store.hosts is None and self._logs.get(job.id) is not None:
            return
        bounds = await insist(lambda: self._store.logs.bounds(job.id), "show a log")
        buffer = self._logs.get(job.id)  # a reader may have come meanwhile, who knew less
        if buffer is not None and buffer.last != bounds.last:
            self._logs.forsake(buffer)  # another host ran an attempt meanwhile
        self._logs.open(job.id, last=bounds.last)

    @property
    def clock(self) -> Clock:
        """The clock of the host."""
        return self._clock

    def log_of(self, run: Run) -> LogBuffer:
        """Return the buffer of a run's job, ready for this attempt."""
        log = self._logs.open(run.job.id)
        log.begin(run.job.attempt.number)
        return log

    def log_under_way(self, job_id: JobId) -> LogBuffer | None:
        """Return the buffer of an attempt that prints here: any other may lag behind the store."""
        run = self._recorder.runs.get(job_id)
        if run is None or run.log is None or self._logs.get(job_id) is not run.log:
            return None
        return run.log

    async def settle_log(self, log: LogBuffer) -> None:
        """Return when one commit holds what the store does not have of the log."""
        await self._logs.settle(log)


def _printed_by(run: Run, job: Job) -> Printed:
    """Return what the only attempt of a job printed, if it was little."""
    if len(job.attempts) > 1:
        return None
    return () if run.log is None else run.log.whole(_PRINTED_BYTES)


def _is_stored(change: Change, outcome: Outcome) -> bool:
    return isinstance(change, Advance) and not outcome.applied and outcome.jobs == (change.job,)
