"""Puts together where the time of a job went, from what is stored with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import attrs

from hodei_core.jobs import Attempt, Job
from hodei_core.phases import TURN, Phase, WaitLog
from hodei_core.states import JobState, WaitingFor

_LATER = {
    WaitingFor.DELAY: "its delay",
    WaitingFor.BACKOFF: "the pause before the next try",
}


def pending_phases(job: Job, log: WaitLog | None, until: datetime) -> tuple[Phase, ...]:
    """Return what a PENDING job waited for since it became so; empty if that was its turn only.

    `log`: what the jobs of its class wait for, as far as this host knows.
    """
    since = _pending_since(job)
    if since == job.due_at and not log:
        return ()
    due = min(max(job.due_at, since), max(until, since))
    phases: list[Phase] = []
    if due > since:
        kind = WaitingFor.BACKOFF if job.attempts or job.returns else WaitingFor.DELAY
        phases.append(Phase(kind, since, due, reason=_LATER[kind]))
    if until > due:
        phases += (log or WaitLog()).phases(due, until)
    if all(phase.kind is WaitingFor.CAPACITY and phase.reason == TURN for phase in phases):
        return ()
    return tuple(phases)


def _pending_since(job: Job) -> datetime:
    ends = [job.submitted_at]
    if job.attempts and job.attempt.finished_at is not None:
        ends.append(job.attempt.finished_at)
    if job.phases:
        ends.append(job.phases[-1].until)
    return max(ends)


def history(job: Job, log: WaitLog | None, now: datetime) -> list[Phase]:
    """Return the phases of a job in order, without gaps, from its submission to its end, or now."""
    until = now if job.finished_at is None else job.finished_at
    known = [*job.phases, *(phase for a in job.attempts for phase in _attempt(a, until))]
    if job.state is JobState.PENDING:
        known += pending_phases(job, log, until)
    known.sort(key=lambda phase: phase.since)
    merged: list[Phase] = []
    for phase in _gapless(known, job.submitted_at, until):
        if merged and (merged[-1].kind, merged[-1].reason) == (phase.kind, phase.reason):
            merged[-1] = attrs.evolve(merged[-1], until=phase.until)
        else:
            merged.append(phase)
    return merged


def _attempt(attempt: Attempt, until: datetime) -> Iterator[Phase]:
    where = f"attempt {attempt.number} on {attempt.worker_id}"
    ended = attempt.finished_at or until
    started = attempt.started_at or ended
    yield Phase(JobState.ASSIGNED, attempt.assigned_at, started, reason=f"{where} was starting")
    if attempt.started_at is not None:
        how = "" if attempt.reason is None else f", which ended {attempt.reason.name}"
        yield Phase(JobState.RUNNING, started, ended, reason=f"{where}{how}")


def _gapless(phases: list[Phase], since: datetime, until: datetime) -> Iterator[Phase]:
    """Yield phases that meet one another; a wall clock that jumped leaves none negative."""
    at = since
    for phase in phases:
        begin = min(max(phase.since, at), until)
        if begin > at:
            yield Phase(WaitingFor.CAPACITY, at, begin, reason=TURN)
        end = min(max(phase.until, begin), until)
        if end > begin:
            yield Phase(phase.kind, begin, end, reason=phase.reason)
        at = end
    if until > at:
        yield Phase(WaitingFor.CAPACITY, at, until, reason=TURN)
