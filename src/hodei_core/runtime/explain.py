"""Says why a job is where it is, from what the dispatcher and its fleet know."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from hodei_core.explanations import Explanation
from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.resources import Resources
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.states import JobState, Reason, WaitingFor
from hodei_core.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Situation(Value):
    """What is known around one job at one instant."""

    job: Job
    now: datetime
    position: int | None = None
    """Jobs ahead of it in its class; None unless it is eligible."""

    workers: tuple[Candidate, ...] = ()
    providers: tuple[ProviderView, ...] = ()
    running: dict[WorkerId, tuple[JobId, ...]] = attrs.field(factory=dict)
    """The jobs that hold slots of each worker."""

    draining: bool = False
    dispatching: bool = True
    """Whether this host runs jobs at all."""


def explain(situation: Situation) -> Explanation:
    """Return why the job is where it is."""
    job = situation.job
    if job.state is not JobState.PENDING:
        return Explanation(job_id=job.id, state=job.state, summary=_underway(job, situation.now))
    return Explanation(
        job_id=job.id,
        state=job.state,
        summary=_waiting(situation),
        workers=tuple((w.id, _worker(w, situation)) for w in situation.workers),
        providers=tuple((p.name, _provider(p, job)) for p in situation.providers),
        position=situation.position,
    )


def _underway(job: Job, now: datetime) -> str:
    if job.state.is_final:
        return _finished(job)
    attempt = job.attempt
    where = f"attempt {attempt.number} on worker {attempt.worker_id}"
    if attempt.started_at is None:
        return f"It is ASSIGNED: {where} is about to start."
    return f"It is RUNNING: {where}, for {span(now - attempt.started_at)}."


def _finished(job: Job) -> str:
    ran = f" after {len(job.attempts)} attempts" if len(job.attempts) > 1 else ""
    why = "" if job.reason is None else f" ({job.reason.name})"
    code = "" if job.exit_code is None else f", exit code {job.exit_code}"
    text = "" if job.message is None else f": {job.message}"
    return f"It ended {job.state.name}{why}{code}{ran}{text}."


def _waiting(situation: Situation) -> str:
    job = situation.job
    left = span(job.due_at - situation.now)
    if not situation.dispatching:
        return "It is PENDING: this host only submits and reads; it runs no jobs."
    if job.waiting_for is WaitingFor.DELAY:
        return f"It is PENDING: its delay ends in {left}."
    if job.waiting_for is WaitingFor.BACKOFF:
        return f"It is PENDING: {_after(job)}; the next try is due in {left}."
    if situation.draining:
        return "It is PENDING: the host is draining and assigns no jobs until resume()."
    needs = Needs.of(job.spec)
    if any(worker.fits(needs.resources) and _could(needs, worker) for worker in situation.workers):
        return "It is PENDING: due, and about to start."
    if any(_could(needs, worker) for worker in situation.workers):
        ahead = situation.position or 0
        turn = "it is the next" if not ahead else f"{ahead} ahead of it"
        return f"It is PENDING: every worker that fits is in use ({turn})."
    able = [p for p in situation.providers if mismatch(needs, p.offer) is None]
    if any(provider.arriving for provider in able):
        return "It is PENDING: a worker that fits is being made."
    if able:
        return "It is PENDING: no worker is there; a provider that fits is to make one."
    return "It is PENDING: no worker or provider could ever run it."


def _could(needs: Needs, worker: Candidate) -> bool:
    return mismatch(needs, worker.offer) is None


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


def _worker(worker: Candidate, situation: Situation) -> str:
    needs = Needs.of(situation.job.spec)
    problem = mismatch(needs, worker.offer)
    if problem is not None:
        return problem
    if not worker.taking:
        return "it is draining"
    if worker.fits(needs.resources):
        return "it has room"
    jobs = situation.running.get(worker.id, ())
    by = f" by {', '.join(jobs[:_SHOWN])}" if jobs else ""
    more = f" and {len(jobs) - _SHOWN} more" if len(jobs) > _SHOWN else ""
    if not worker.slots_free:
        count = worker.offer.slots
        slots = "its slot is" if count == 1 else f"all {count} slots are"
        return f"{slots} in use{by}{more}"
    return f"too little of it is free ({_left(worker)}); in use{by}{more}"


def _left(worker: Candidate) -> str:
    return str(Resources(worker.cpus_free, worker.memory_free))


def _provider(provider: ProviderView, job: Job) -> str:
    problem = mismatch(Needs.of(job.spec), provider.offer)
    if problem is not None:
        return problem
    if provider.never is not None:
        return provider.never
    if provider.obstacle is not None:
        return provider.obstacle
    if provider.arriving:
        return "it is making a worker"
    if provider.room <= 0:
        return "it has as many workers as it may"
    return "it can make a worker"


_SHOWN = 5  # jobs that are named


def span(length: timedelta) -> str:
    """Return a span in words: "2.5 s", "3 min 20 s", "2 h 5 min"; never negative."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
