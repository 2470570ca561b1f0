"""Says why a job is where it is, from what the dispatcher and its fleet know."""

from __future__ import annotations

from datetime import datetime

import attrs

from hodei_core.explanations import Explanation, span
from hodei_core.history import history
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.phases import WaitLog
from hodei_core.resources import Resources
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.states import JobState, Reason, WaitingFor
from hodei_core.values import Value
from hodei_core.workers import Offer, WorkerState


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WorkerNote(Value):
    """What is known of a worker around a job at one instant."""

    id: WorkerId
    offer: Offer
    state: WorkerState
    begun_at: datetime | None = None
    """When it began to be made; None of a worker of another host."""

    room: Candidate | None = None
    """What it has left; None unless it takes work or drains."""

    jobs: tuple[JobId, ...] = ()
    """The jobs that hold its slots."""

    kept_for: JobId | None = None
    """The job that it is filled no further for."""

    loss: str | None = None
    """How it was lost."""

    elsewhere: bool = False
    """Whether it is another host's, which decides what it takes."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Situation(Value):
    """What is known around one job at one instant."""

    job: Job
    now: datetime
    log: WaitLog | None = None
    """What jobs with its needs wait for."""

    position: int | None = None
    """Jobs ahead of it in its class; None unless it is eligible and they were counted."""

    workers: tuple[WorkerNote, ...] = ()
    providers: tuple[ProviderView, ...] = ()
    elsewhere: tuple[tuple[HostId, Offer], ...] = ()
    """What the workers of other hosts have or would have, with their host."""

    draining: bool = False
    dispatching: bool = True
    """Whether this host runs jobs at all."""

    loss: str | None = None
    """How the worker was lost that it runs on; None if it was not."""


def explain(situation: Situation) -> Explanation:
    """Return why the job is where it is."""
    job, now = situation.job, situation.now
    phases = tuple(
        (phase.kind, phase.until - phase.since, phase.reason)
        for phase in history(job, situation.log, now)
    )
    if job.state is not JobState.PENDING:
        summary = _underway(job, now, situation.loss)
        return Explanation(job_id=job.id, state=job.state, summary=summary, history=phases)
    return Explanation(
        job_id=job.id,
        state=job.state,
        summary=f"It is PENDING: {_waiting(situation)}.",
        workers=tuple((w.id, _worker(w, situation)) for w in situation.workers),
        providers=(
            *((p.name, _provider(p, situation)) for p in situation.providers),
            *((_far(host, offer), _offer(offer, job)) for host, offer in situation.elsewhere),
        ),
        position=situation.position,
        history=phases,
    )


def _underway(job: Job, now: datetime, loss: str | None) -> str:
    if job.state.is_final:
        return _finished(job)
    attempt = job.attempt
    where = f"attempt {attempt.number} on worker {attempt.worker_id}"
    started = attempt.started_at
    if started is None:
        state = f"It is ASSIGNED: {where}"
    else:
        state = f"It is RUNNING: {where}, for {span(now - started)}"
    if loss is not None:
        return f"{state}; the worker is lost ({loss}), and not yet certain to be gone."
    return f"{state} is about to start." if started is None else f"{state}."


def _finished(job: Job) -> str:
    ran = f" after {len(job.attempts)} attempts" if len(job.attempts) > 1 else ""
    why = "" if job.reason is None else f" ({job.reason.name})"
    code = "" if job.exit_code is None else f", exit code {job.exit_code}"
    text = "" if job.message is None else f": {job.message}"
    return f"It ended {job.state.name}{why}{code}{ran}{text}."


def _waiting(situation: Situation) -> str:
    job = situation.job
    left = span(job.due_at - situation.now)
    if job.waiting_for is WaitingFor.DELAY:
        return f"its delay ends in {left}"
    if job.waiting_for is WaitingFor.BACKOFF:
        return f"{_after(job)}; the next try is due in {left}"
    if not situation.elsewhere:
        if not situation.dispatching:
            return "this program only submits and reads, and no host runs jobs"
        if situation.draining:
            return "the host is draining and assigns no jobs until resume()"
    return _due(situation)


def _due(situation: Situation) -> str:
    job = situation.job
    needs = Needs.of(job.spec)
    serving = [
        worker
        for worker in situation.workers
        if worker.room is not None
        and worker.room.taking
        and _could(needs, worker.offer)
        and (worker.elsewhere or not situation.draining)
    ]
    free = [worker for worker in serving if _free(worker, needs, job.id)]
    if any(not worker.elsewhere for worker in free):
        return "due, and about to start"
    if free:
        return f"due, and worker {free[0].id} has room: its host takes it, unless that is draining"
    for worker in serving:
        if worker.kept_for == job.id:
            return f"worker {worker.id} is kept for it and filled no further"
    able = [provider for provider in situation.providers if _could(needs, provider.offer)]
    making = "; ".join(f"{p.name} has {_making(p, situation.now)}" for p in able if p.arriving)
    if serving:
        more = f", and {making}" if making else ""
        return f"every worker that fits is in use{more}{_turn(situation.position)}"
    if making:
        return making
    far = [_far(host, offer) for host, offer in situation.elsewhere if _could(needs, offer)]
    if not able and not far:
        where = "live host" if situation.elsewhere else "worker or provider"
        return f"no {where} could ever run it"
    if situation.draining or not able:
        return _elsewhere(far)
    obstacles = [f"{p.name}: {_provider(p, situation)}" for p in able if not p.askable]
    if len(obstacles) == len(able):
        return f"no worker is there, and none can be made now ({'; '.join(obstacles)})"
    return "no worker is there; a provider that fits is to make one"


def _turn(ahead: int | None) -> str:
    if ahead is None:
        return ""
    return f" ({ahead} ahead of it)" if ahead else " (it is the next)"


def _elsewhere(far: list[str]) -> str:
    if not far:
        return "the host is draining and assigns no jobs until resume()"
    return f"no worker is there; another host could make one ({', '.join(far)})"


def _far(host: HostId, offer: Offer) -> str:
    """Return the name of a provider of another host."""
    return f"{offer.provider} of host {host[:_HOST_DIGITS]}"


def _offer(offer: Offer, job: Job) -> str:
    return mismatch(Needs.of(job.spec), offer) or "its workers could run it"


def _could(needs: Needs, offer: Offer) -> bool:
    return mismatch(needs, offer) is None


def _free(worker: WorkerNote, needs: Needs, job_id: JobId) -> bool:
    """Return whether such a job has room there now, and nobody else is waited for."""
    assert worker.room is not None  # noqa: S101 - it takes work
    return worker.kept_for in (None, job_id) and worker.room.fits(needs.resources)


def _making(provider: ProviderView, now: datetime) -> str:
    since = "" if provider.arriving_since is None else f" for {span(now - provider.arriving_since)}"
    what = "a worker" if provider.arriving == 1 else f"{provider.arriving} workers"
    return f"been making {what}{since}"


def _after(job: Job) -> str:
    """Return what happened before the backoff that the job is in."""
    if job.returns:
        return f"it was given back ({job.returns[-1]})"
    attempt = job.attempt
    reason = attempt.reason.name if attempt.reason else "unknown"
    code = (
        ""
        if attempt.exit_code is None or attempt.reason not in _CODED
        else (f", exit code {attempt.exit_code}")
    )
    return f"attempt {attempt.number} of {job.spec.retry.max_attempts} failed ({reason}{code})"


_CODED = (Reason.EXIT_CODE, Reason.SIGNALLED)


def _worker(worker: WorkerNote, situation: Situation) -> str:
    job = situation.job
    needs = Needs.of(job.spec)
    problem = mismatch(needs, worker.offer)
    if problem is not None:
        return problem
    if worker.state is WorkerState.PROVISIONING:
        since = worker.begun_at
        return "it is being made" + (
            "" if since is None else f", for {span(situation.now - since)}"
        )
    if worker.state is WorkerState.LOST:
        return f"it is lost: {worker.loss}"
    if worker.state is WorkerState.DRAINING:
        return "it is draining: it takes no more jobs"
    if worker.room is None:
        return "it is being ended"
    if worker.kept_for is not None and worker.kept_for != job.id:
        return f"it is kept for job {worker.kept_for}, which others have overtaken for long"
    return _room(worker, worker.room, needs)


def _room(worker: WorkerNote, room: Candidate, needs: Needs) -> str:
    if room.fits(needs.resources):
        return "it has room"
    by = f" by {', '.join(worker.jobs[:_SHOWN])}" if worker.jobs else ""
    more = f" and {len(worker.jobs) - _SHOWN} more" if len(worker.jobs) > _SHOWN else ""
    if not room.slots_free:
        count = worker.offer.slots
        slots = "its slot is" if count == 1 else f"all {count} slots are"
        return f"{slots} in use{by}{more}"
    left = Resources(room.cpus_free, room.memory_free)
    return f"too little of it is free ({left}); in use{by}{more}"


def _provider(provider: ProviderView, situation: Situation) -> str:
    problem = mismatch(Needs.of(situation.job.spec), provider.offer)
    if problem is not None:
        return problem
    if provider.never is not None:
        return f"it can never make a worker: {provider.never}"
    if provider.arriving:
        return f"it has {_making(provider, situation.now)}"
    if provider.obstacle is not None:
        again = "" if provider.until is None else span(provider.until - situation.now)
        return provider.obstacle + (f"; it is asked again in {again}" if again else "")
    if provider.room <= 0:
        return "it has as many workers as it may"
    return "it can make a worker"


_SHOWN = 5  # jobs that are named
_HOST_DIGITS = 8  # of a host's id that are shown
