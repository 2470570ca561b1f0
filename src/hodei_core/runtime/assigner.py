"""Gives due jobs to workers: the meeting of backlog, scheduler and fleet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

from hodei_core.clock import Clock
from hodei_core.compat import assert_never
from hodei_core.history import pending_phases
from hodei_core.ids import WorkerId
from hodei_core.jobs import Attempt, Job
from hodei_core.phases import Phase, WaitLog
from hodei_core.ports import Advance, CancelRequest, Cover, JobQueue, Needs, Outcome
from hodei_core.runtime.deadlines import Deadline, Deadlines
from hodei_core.runtime.fleet import Fleet
from hodei_core.runtime.patience import insist
from hodei_core.runtime.plan import Plan
from hodei_core.scheduling.backlog import Backlog, NeedsClass, key_of
from hodei_core.scheduling.coverage import Coverage
from hodei_core.scheduling.decisions import (
    Assign,
    Provision,
    Reject,
    SchedulingDecision,
    Wait,
)
from hodei_core.scheduling.fairness import Fairness
from hodei_core.scheduling.scheduler import IN_USE, Scheduler, making
from hodei_core.states import JobState, Reason, WaitingFor
from hodei_core.workers import Offer

logger: logging.Logger = logging.getLogger(__name__)

_BATCH = 256  # decisions in one step, so that none holds the event loop for long
_REPRIEVE_SECONDS = 60.0  # that a job of a shared store waits for a host that could run it
_ASKS = 32  # of providers in one step: the event loop is not held longer
_COVER = timedelta(minutes=2)  # that other hosts leave a job alone that a worker is made for
_REFUSED = Wait(WaitingFor.CAPACITY, ("the store refused to assign it",))
_ROUNDING = 1e-6  # seconds: a timer may fire that much early


class _Look:
    """A look at a part of the queue, whose answer may come late."""

    __slots__ = ("came", "needs", "overtaken")

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.came: list[Job] = []
        """What became eligible since it began."""

        self.overtaken = False
        """Whether one that began later has been answered."""


class Assigner:
    """Takes decisions for the first due jobs and plans what follows from them.

    A slot is reserved when the decision is taken, and let go again if the store refuses.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        scheduler: Scheduler,
        fleet: Fleet,
        clock: Clock,
        deadlines: Deadlines,
        wake: Callable[[], None],
        assigned: Callable[[Job, CancelRequest | None], None],
        ended: Callable[[Job], None],
        shared: bool,
        others_could: Callable[[Needs], bool],
    ) -> None:
        self._shared = shared
        self._others_could = others_could
        self._queue = queue
        self._scheduler = scheduler
        self._fleet = fleet
        self._clock = clock
        self._assigned = assigned
        self._ended = ended
        self._backlog = Backlog(self._moved_on)
        self._fairness = Fairness(fleet.index)
        self._fairness_timer: Deadline | None = None
        self._deadlines = deadlines
        self._wake = wake
        self._demand_changed = False
        self._asks = 0
        self._looks: list[_Look] = []
        """Those under way, in the order in which they began."""

        self._drained: tuple[str, ...] | None = None
        self.underway: int = 0
        """How many assignments are being stored."""

    def add(self, job: Job) -> None:
        """Take note of a job that became eligible."""
        of = self._backlog.add(job)
        for look in self._looks:
            look.came.append(job)
        self._demand_changed = True
        if self._drained is not None:
            since = self._clock.now() if of.log else job.due_at
            of.log.note(since, WaitingFor.DRAIN, self._drained)

    def discard(self, job: Job) -> None:
        """Consider a job no more."""
        of = self._backlog.discard(job)
        if of is not None:
            for offer in self._fairness.left(of.number, key_of(job)):
                self._backlog.wake(offer)

    def has_jobs(self) -> bool:
        """Whether any due job is in view."""
        return bool(self._backlog)

    def has_work(self) -> bool:
        """Whether a job might be placed by another step."""
        return self._backlog.head() is not None or bool(self._backlog.starving())

    def waits_for(self, needs: Needs) -> Wait | None:
        """Return why jobs with these needs wait, as it was decided; None if it was not."""
        return self._backlog.wait_of(needs)

    def waited(self, job: Job, until: datetime) -> tuple[Phase, ...]:
        """Return what a PENDING job waited for, up to now."""
        of = self._backlog.get(Needs.of(job.spec))
        return pending_phases(job, None if of is None else of.log, until)

    def log_of(self, needs: Needs) -> WaitLog | None:
        """Return what jobs with these needs wait for; None if there are none."""
        of = self._backlog.get(needs)
        return None if of is None else of.log

    def draining(self, reasons: tuple[str, ...] | None) -> None:
        """Take note that from now on nothing is assigned, for these reasons, or is again."""
        self._drained = reasons
        kind = WaitingFor.CAPACITY if reasons is None else WaitingFor.DRAIN
        now = self._clock.now()
        for of in self._backlog.classes():
            of.log.note(now, kind, reasons or ())

    def release(self, job: Job) -> None:
        """Let go of what the job's last attempt held of its worker."""
        self.let_go(job.attempt, job)

    def let_go(self, attempt: Attempt, job: Job) -> None:
        """Let go of what is held of a worker for an attempt of a job."""
        if self._fleet.release(attempt.worker_id, job.spec.resources):
            self._backlog.wake(self._fleet.index[attempt.worker_id].offer)

    def fleet_changed(self) -> None:
        """Consider every class of needs anew."""
        self._backlog.wake_all()
        self._demand_changed = True

    async def load_all(self) -> None:
        """Bring into view what the store holds, and nothing else."""
        known = dict.fromkeys(of.needs for of in self._backlog.classes())
        await self.load(known | dict.fromkeys(await insist(self._queue.needs, "show its queue")))

    async def load(self, classes: Iterable[Needs]) -> None:
        """Bring into view what the store holds of some classes of needs."""
        for needs in classes:
            await self._refill(needs)

    async def refill(self) -> None:
        """Bring more into view of the classes that have run out."""
        for needs in self._backlog.starving():
            await self._refill(needs)

    async def _refill(self, needs: Needs) -> None:
        limit = self._backlog.limit_of(needs)
        look = _Look(needs)
        self._looks.append(look)
        try:
            jobs = await insist(partial(self._queue.peek, needs, limit), "show its queue")
        finally:
            place = self._looks.index(look)
            del self._looks[place]
        if look.overtaken:
            return
        for earlier in self._looks[:place]:
            earlier.overtaken = earlier.overtaken or earlier.needs == needs
        self._backlog.refill(needs, jobs)
        for job in look.came:  # the answer may be older
            if Needs.of(job.spec) == needs:
                self._backlog.add(job)

    def plan(self, plan: Plan) -> None:
        """Decide about the first jobs, as far as there is room or a reason to end them."""
        for _ in range(_BATCH):
            of = self._backlog.head()
            if of is None:
                self._provide(plan)
                break
            decision = self._decide(of)
            if isinstance(decision, Assign):
                self._plan_assignment(plan, of, decision)
            elif isinstance(decision, Provision):
                self._park(of, making(decision.provider), wanting=True)
                self._demand_changed = True
            elif isinstance(decision, Wait):
                self._park(of, decision)
            elif isinstance(decision, Reject):
                if (reprieve := self._reprieve(of, decision)) is not None:
                    self._park(of, reprieve)
                else:
                    self._plan_rejection(plan, self._backlog.take(of), decision)
            else:
                assert_never(decision)
        self._arm_fairness()

    def _decide(self, of: NeedsClass) -> SchedulingDecision:
        """Return what the scheduler says of a class's first job; a slot for it is reserved.

        Its strategies may be the user's: what they raise is contained.
        """
        try:
            decision = self._ask(of.needs, of.window[0])
            if isinstance(decision, Assign):
                self._fleet.reserve(decision.worker_id, of.window[0])
        except Exception as error:
            logger.exception("the scheduler failed", extra={"action": "schedule"})
            return Wait(WaitingFor.CAPACITY, (f"the scheduler failed: {error!r}",))
        return decision

    def hold(self, job: Job) -> Attempt | None:
        """Take a slot for a job that is about to be stored, unless it will have to wait.

        Nothing is ahead of it that might be placed. Returns the attempt that may then begin.
        """
        if self._drained is not None or not self._fleet.index.has_room or self.has_work():
            return None
        needs = Needs.of(job.spec)
        if self._backlog.get(needs) is not None:
            return None
        try:
            decision = self._ask(needs, job)
            if not isinstance(decision, Assign) or not self._fleet.may_hold(decision.worker_id):
                return None
            self._fleet.reserve(decision.worker_id, job)
        except Exception:  # when the job is there it is asked again, and told of
            return None
        offer = self._given(job, decision.worker_id)
        self._arm_fairness()
        at, host_id = job.submitted_at, self._fleet.host_id
        return job.assigned(decision.worker_id, offer.provider, at, host_id=host_id).attempt

    def _ask(self, needs: Needs, job: Job) -> SchedulingDecision:
        self._fleet.view.job = job
        decision = self._scheduler.schedule(needs, self._fleet.view)
        _check_decision(decision)
        return decision

    def _park(self, of: NeedsClass, why: Wait, *, wanting: bool = False) -> None:
        offers = self._fleet.view.matching(of.needs)
        of.log.note(self._clock.now(), why.waiting_for, () if why == IN_USE else why.reasons)
        self._backlog.park(of, why, offers, wanting=wanting)
        self._fairness.waits(of, offers)

    def _reprieve(self, of: NeedsClass, decision: Reject) -> Wait | None:
        """Return why a job waits that cannot run here, but may elsewhere; None if it cannot."""
        if not self._shared:
            return None
        if self._others_could(of.needs):
            return Wait(WaitingFor.CAPACITY, ("another host could run it", *decision.reasons))
        due = of.window[0].due_at
        if (self._clock.now() - due).total_seconds() < _REPRIEVE_SECONDS:
            return Wait(WaitingFor.CAPACITY, ("no live host could run it", *decision.reasons))
        return None

    def _provide(self, plan: Plan) -> None:
        """Have workers made for jobs that neither a worker nor one on its way has room for."""
        if not self._demand_changed:
            return
        self._demand_changed = False
        self._asks = _ASKS
        coverage = Coverage()
        for offer, count in self._fleet.view.arriving():
            coverage.add(offer, count)
        for of in self._backlog.wanting():
            try:
                self._provide_for(of, coverage, plan)
            except Exception:
                logger.exception("the scheduler failed", extra={"action": "schedule"})

    def _provide_for(self, of: NeedsClass, coverage: Coverage, plan: Plan) -> None:
        left = coverage.take(of.needs, len(of.window))
        while left:
            if not self._asks:
                self._demand_changed = True
                self._wake()
                return
            self._asks -= 1
            decision = self._ask(of.needs, of.window[0])
            if not isinstance(decision, Provision):
                self._backlog.unpark(of)
                if isinstance(decision, Wait):
                    self._park(of, decision)
                return
            offer = self._fleet.provision(decision.provider)
            if offer is None or not coverage.fits(of.needs, offer):
                return
            coverage.add(offer, 1)
            before, left = left, coverage.take(of.needs, left)
            if self._shared:
                self._cover(of, len(of.window) - before, len(of.window) - left, plan)
        if self._backlog.widen(of):  # all in view have one: the store may hold more
            self._demand_changed = True
            self._wake()

    def _cover(self, of: NeedsClass, begin: int, end: int, plan: Plan) -> None:
        """Keep other hosts from providing for jobs that a worker of ours is being made for."""
        jobs = tuple(job.id for job in islice(of.window, begin, end))
        until = self._clock.now() + _COVER
        plan.add(Cover(jobs, self._fleet.host_id, until))

    # Those who are overtaken

    def kept_for(self) -> dict[WorkerId, Job]:
        """Return the workers that are kept, each with the job that it is kept for."""
        return {
            worker_id: of.window[0]
            for of in self._backlog.classes()
            if of.window
            for worker_id in self._fairness.kept(of.number)
        }

    def _moved_on(self, number: int) -> None:
        for offer in self._fairness.moved_on(number):
            self._backlog.wake(offer)

    def _arm_fairness(self) -> None:
        at = self._fairness.next_at()
        if self._fairness_timer is None and at is not None:
            self._fairness_timer = self._deadlines.at(at, self._keep)

    def _keep(self) -> None:
        self._fairness_timer = None
        self._fairness.keep(self._clock.monotonic() + _ROUNDING)
        self._wake()

    def _plan_assignment(self, plan: Plan, of: NeedsClass, decision: Assign) -> None:
        now = self._clock.now()
        job = of.window[0]
        waited = pending_phases(job, of.log, now)
        self._backlog.take(of)
        offer = self._given(job, decision.worker_id)
        assigned = job.assigned(
            decision.worker_id, offer.provider, now, host_id=self._fleet.host_id, waited=waited
        )
        self.underway += 1
        plan.add(Advance(assigned, job.version), partial(self._settle_assignment, job, assigned))

    def _given(self, job: Job, worker_id: WorkerId) -> Offer:
        """Take note of whom a job overtakes with a worker; return what that has."""
        offer = self._fleet.index[worker_id].offer
        if self._fairness:
            self._fairness.assigned(key_of(job), offer, self._clock.monotonic())
        return offer

    def _settle_assignment(self, job: Job, assigned: Job, outcome: Outcome) -> None:
        self.underway -= 1
        if outcome.applied:
            self._assigned(assigned, outcome.cancel)
            return
        self.release(assigned)
        for stored in outcome.jobs:
            if stored.state is JobState.PENDING and stored.version == job.version:
                of = self._backlog.add(stored)
                if of.parked is None and of.window:
                    # Until the next look at all: a slot that is freed would change nothing.
                    self._backlog.park(of, _REFUSED, ())

    def _plan_rejection(self, plan: Plan, job: Job, decision: Reject) -> None:
        message = "; ".join(decision.reasons) or None
        if decision.reason is Reason.UNSCHEDULABLE:
            message = f"no provider could ever run it: {message or 'there is none'}"
        final = job.finished(
            JobState.FAILED,
            decision.reason,
            at=self._clock.now(),
            message=message,
            waited=self.waited(job, self._clock.now()),
        )
        plan.add(Advance(final, job.version), partial(self._settle_rejection, final))

    def _settle_rejection(self, final: Job, outcome: Outcome) -> None:
        if outcome.applied:
            self._ended(final)


def _check_decision(decision: object) -> None:
    if not isinstance(decision, (Assign, Provision, Wait, Reject)):
        msg = f"it answered {decision!r}, which is no decision"
        raise TypeError(msg)
