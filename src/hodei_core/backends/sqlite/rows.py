"""How values are written into rows, and made of rows again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import attrs

from hodei_core.events import (
    JobAssigned,
    JobEvent,
    JobFinished,
    JobRetried,
    JobStarted,
    JobSubmitted,
)
from hodei_core.frozendict import EMPTY
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Attempt, Job, Usage
from hodei_core.logs import LogSegment, LogSource
from hodei_core.phases import Phase
from hodei_core.ports import CancelRequest, Needs
from hodei_core.resources import Resources
from hodei_core.retry import Backoff, RetryPolicy
from hodei_core.specs import JobSpec
from hodei_core.states import JobState, Reason, WaitingFor
from hodei_core.workers import Offer, Worker, WorkerState

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400_000_000
_SECOND = 1_000_000

QUEUED, LATER = 1, 2
"""What `jobs.queued` says of a job that is eligible, and of one that is delayed or backs off."""

JOB_COLUMNS = (
    "j.seq, j.id, j.state, j.waiting_for, j.version, j.submitted_at, j.due_at, j.started_at, "
    "j.finished_at, j.reason, j.message, j.exit_code, j.retried_from, j.attempts, j.returns, "
    "j.phases, s.content, s.stdin"
)
"""What `job` makes a job of, from `jobs j` and `specs s`."""

JOBS = f"select {JOB_COLUMNS} from jobs j join specs s on s.seq = j.seq"
"""A statement that shows jobs, for `job`; conditions are to follow."""

Text = Any
"""A text as SQLite has it: bytes, if it holds what UTF-8 has no place for."""


# Parts


def text(value: str | None) -> Text:
    """Return a text as it is stored."""
    if value is None or value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:  # a name of a file that is no UTF-8, as Python writes it
        return value.encode("utf-8", "surrogatepass")
    return value


def plain(value: Text) -> Any:
    """Return a stored text."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def instant(at: datetime | None) -> int | None:
    """Return an instant as it is stored: microseconds since 1970."""
    if at is None:
        return None
    since = at - _EPOCH
    return since.days * _DAY + since.seconds * _SECOND + since.microseconds


def moment(stored: int | None) -> Any:
    """Return a stored instant."""
    return None if stored is None else _EPOCH + timedelta(microseconds=stored)


def _micros(span: timedelta) -> int:
    return span // _MICROSECOND


def _span(stored: int) -> timedelta:
    return timedelta(microseconds=stored)


dumps: Callable[[object], str] = json.JSONEncoder(separators=(",", ":")).encode
"""Returns a value as JSON: ASCII, and without a space too many."""


# Specs and needs


def _resources(resources: Resources) -> dict[str, object]:
    return {"cpus": resources.cpus, "memory": resources.memory}


def _backoff(backoff: Backoff) -> dict[str, object]:
    return {
        "first": _micros(backoff.first),
        "factor": backoff.factor,
        "max": _micros(backoff.max),
        "jitter": backoff.jitter,
    }


def _retry(retry: RetryPolicy) -> dict[str, object]:
    return {
        "max_attempts": retry.max_attempts,
        "backoff": _backoff(retry.backoff),
        "on": sorted(reason.value for reason in retry.on),
        "exit_codes": None if retry.exit_codes is None else sorted(retry.exit_codes),
        "requeue_interrupted": retry.requeue_interrupted,
    }


_WRITE = {
    Resources: _resources,
    RetryPolicy: _retry,
    timedelta: _micros,
}
_SPEC_FIELDS = [
    (field.name, field.default) for field in attrs.fields(JobSpec) if field.name != "stdin"
]
_SHORT = 512  # characters of a spec that is remembered
_SPANS = ("timeout", "pending_timeout", "delay", "grace")


def spec_content(spec: JobSpec) -> str:
    """Return a spec as JSON: the fields that are not at their default, but for `stdin`."""
    content: dict[str, object] = {}
    for name, default in _SPEC_FIELDS:
        value = getattr(spec, name)
        if value is default or value == default:
            continue
        if isinstance(value, Mapping):
            value = dict(value)
        else:
            write: Any = _WRITE.get(type(value))
            value = value if write is None else write(value)
        content[name] = value
    return dumps(content)


def spec(content: str, stdin: bytes | None) -> JobSpec:
    """Return a spec of what is stored.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    if stdin is None and len(content) <= _SHORT:
        return _short_spec(content)
    return _spec(content, stdin)


@lru_cache(maxsize=1_024)
def _short_spec(content: str) -> JobSpec:
    return _spec(content, None)


def _spec(content: str, stdin: bytes | None) -> JobSpec:
    fields: dict[str, Any] = json.loads(content)
    command = fields.pop("command")
    for name in _SPANS:
        if fields.get(name) is not None:
            fields[name] = _span(fields[name])
    if "resources" in fields:
        fields["resources"] = Resources(**fields["resources"])
    if "retry" in fields:
        fields["retry"] = _stored_retry(fields["retry"])
    if stdin is not None:
        fields["stdin"] = stdin
    return JobSpec(command, **fields)


def _stored_retry(stored: dict[str, Any]) -> RetryPolicy:
    backoff = stored["backoff"]
    return RetryPolicy(
        max_attempts=stored["max_attempts"],
        backoff=Backoff(
            first=_span(backoff["first"]),
            factor=backoff["factor"],
            max=_span(backoff["max"]),
            jitter=backoff["jitter"],
        ),
        on=frozenset(Reason(value) for value in stored["on"]),
        exit_codes=None if stored["exit_codes"] is None else frozenset(stored["exit_codes"]),
        requeue_interrupted=stored["requeue_interrupted"],
    )


def needs_content(needs: Needs) -> str:
    """Return needs as JSON, equal ones as equal text."""
    return dumps(
        {
            "resources": _resources(needs.resources),
            "image": needs.image,
            "requires": dict(sorted(needs.requires.items())),
            "provider": needs.provider,
            "prefers": needs.prefers,
        }
    )


def needs(content: str) -> Needs:
    """Return needs of what is stored."""
    fields: dict[str, Any] = json.loads(content)
    fields["resources"] = Resources(**fields["resources"])
    return Needs(**fields)


# Jobs


def queued(job: Job) -> int | None:
    """Return what `jobs.queued` is for a job."""
    if job.state is not JobState.PENDING:
        return None
    return LATER if job.waiting_for in (WaitingFor.DELAY, WaitingFor.BACKOFF) else QUEUED


def attempts_content(attempts: tuple[Attempt, ...]) -> str:
    """Return attempts as JSON: of each what is not at its default."""
    if not attempts:
        return "[]"
    return dumps([_attempt(attempt) for attempt in attempts])


def _attempt(attempt: Attempt) -> dict[str, object]:
    content: dict[str, object] = {
        "number": attempt.number,
        "worker": attempt.worker_id,
        "provider": attempt.provider,
        "assigned_at": instant(attempt.assigned_at),
    }
    if attempt.started_at is not None:
        content["started_at"] = instant(attempt.started_at)
    if attempt.finished_at is not None:
        content["finished_at"] = instant(attempt.finished_at)
    if attempt.reason is not None:
        content["reason"] = attempt.reason.value
    if attempt.exit_code is not None:
        content["exit_code"] = attempt.exit_code
    if attempt.usage is not None:
        content["cpu"] = _micros(attempt.usage.cpu)
        content["max_rss_bytes"] = attempt.usage.max_rss_bytes
    if attempt.uncounted:
        content["uncounted"] = True
    if attempt.host_id is not None:
        content["host"] = attempt.host_id
    return content


def _stored_attempt(stored: dict[str, Any]) -> Attempt:
    reason = stored.get("reason")
    return Attempt(
        number=stored["number"],
        worker_id=stored["worker"],
        provider=stored["provider"],
        assigned_at=moment(stored["assigned_at"]),
        started_at=moment(stored.get("started_at")),
        finished_at=moment(stored.get("finished_at")),
        reason=None if reason is None else Reason(reason),
        exit_code=stored.get("exit_code"),
        usage=Usage(cpu=_span(stored["cpu"]), max_rss_bytes=stored["max_rss_bytes"])
        if "cpu" in stored
        else None,
        uncounted=stored.get("uncounted", False),
        host_id=stored.get("host"),
    )


def returns_content(returns: tuple[str, ...]) -> str | None:
    """Return the causes of free returns as JSON; None if there are none."""
    return dumps(returns) if returns else None


def phases_content(phases: tuple[Phase, ...]) -> str | None:
    """Return phases as JSON; None if there are none."""
    if not phases:
        return None
    return dumps([[p.kind.value, instant(p.since), instant(p.until), p.reason] for p in phases])


def _stored_phases(stored: str) -> tuple[Phase, ...]:
    return tuple(
        Phase(_kind(kind), moment(since), moment(until), reason=reason)
        for kind, since, until, reason in json.loads(stored)
    )


def _kind(value: str) -> WaitingFor | JobState:
    try:
        return WaitingFor(value)
    except ValueError:
        return JobState(value)


def job(row: tuple[Any, ...]) -> Job:
    """Return a job of a row of `JOB_COLUMNS`.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    (
        seq,
        id_,
        state,
        waiting_for,
        version,
        submitted_at,
        due_at,
        started_at,
        finished_at,
        reason,
        message,
        exit_code,
        retried_from,
        attempts,
        returns,
        phases,
        content,
        stdin,
    ) = row
    return Job(
        id=plain(id_),
        spec=spec(content, stdin),
        seq=seq,
        state=JobState(state),
        waiting_for=None if waiting_for is None else WaitingFor(waiting_for),
        version=version,
        attempts=()
        if attempts == "[]"
        else tuple(_stored_attempt(attempt) for attempt in json.loads(attempts)),
        submitted_at=moment(submitted_at),
        due_at=moment(due_at),
        started_at=moment(started_at),
        finished_at=moment(finished_at),
        reason=None if reason is None else Reason(reason),
        message=plain(message),
        exit_code=exit_code,
        retried_from=plain(retried_from),
        returns=() if returns is None else tuple(json.loads(returns)),
        phases=() if phases is None else _stored_phases(phases),
    )


def cancel_request(cancel_at: int | None, reason: Text) -> CancelRequest | None:
    """Return a stored request that a job ends; None if there is none."""
    return None if cancel_at is None else CancelRequest(at=moment(cancel_at), reason=plain(reason))


# Events

EVENT_COLUMNS = (
    "writer, job, needs, version, kind, at, attempt, worker, state, reason, exit_code, due_at"
)
"""What `event` makes of an event."""

TOLD_COLUMNS = (
    "j.id, j.name, e.version, e.kind, e.at, e.attempt, e.worker, e.state, e.reason, e.exit_code, "
    "e.due_at"
)
"""What `told` makes an event of, from `events e` and `jobs j`."""

FINISHED, DUE = "finished", "due"
"""The kinds of the events that a job is final, and that it came into the queue with time."""


def event(writer: int, seq: int, needs: int | None, event: JobEvent) -> tuple[Any, ...]:
    """Return the row of an event; `needs`: the class whose queue changed."""
    head = (writer, seq, needs, event.version)
    at = instant(event.at)
    if isinstance(event, JobSubmitted):
        return (*head, "submitted", at, None, None, None, None, None, None)
    if isinstance(event, JobFinished):
        reason = None if event.reason is None else event.reason.value
        state = event.state.value
        return (*head, FINISHED, at, None, None, state, reason, event.exit_code, None)
    if isinstance(event, JobRetried):
        reason = None if event.reason is None else event.reason.value
        due_at = instant(event.due_at)
        return (*head, "retried", at, event.attempt, None, None, reason, None, due_at)
    if isinstance(event, (JobAssigned, JobStarted)):
        kind = "assigned" if isinstance(event, JobAssigned) else "started"
        worker = text(event.worker_id)
        return (*head, kind, at, event.attempt, worker, None, None, None, None)
    msg = f"{type(event).__name__} is told by nobody"
    raise TypeError(msg)


def told(row: tuple[Any, ...]) -> JobEvent:
    """Return an event of a row of `TOLD_COLUMNS`.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    id_, name, version, kind, at, attempt, worker, state, why, exit_code, due_at = row
    common: dict[str, Any] = {"at": moment(at), "job_id": JobId(plain(id_)), "version": version}
    reason = None if why is None else Reason(why)
    if kind == "submitted":
        return JobSubmitted(name=plain(name), **common)
    if kind == FINISHED:
        return JobFinished(state=JobState(state), reason=reason, exit_code=exit_code, **common)
    if kind == "retried":
        return JobRetried(attempt=attempt, reason=reason, due_at=moment(due_at), **common)
    made = {"assigned": JobAssigned, "started": JobStarted}[kind]
    return made(worker_id=WorkerId(plain(worker)), attempt=attempt, **common)


# Workers and hosts

WORKER_COLUMNS = (
    "id, provider, state, slots, slots_used, resources, labels, image, ready_at, idle_since, host"
)
"""What `worker` makes a worker of."""

_TAKES_WORK = (WorkerState.READY, WorkerState.BUSY)


def resources_content(resources: Resources) -> str:
    """Return resources as JSON."""
    return dumps(_resources(resources))


def labels_content(labels: Mapping[str, str]) -> str:
    """Return labels as JSON."""
    return dumps(dict(labels))


def worker(row: tuple[Any, ...], jobs: tuple[JobId, ...]) -> Worker:
    """Return a worker of a row of `WORKER_COLUMNS`, and of the jobs that hold its slots."""
    id_, provider, state, slots, used, resources, labels, image, ready_at, idle_since, host = row
    shown = WorkerState(state)
    if shown in _TAKES_WORK:
        shown = WorkerState.BUSY if used >= slots else WorkerState.READY
    return Worker(
        id=WorkerId(plain(id_)),
        provider=plain(provider),
        state=shown,
        slots=slots,
        slots_used=used,
        resources=Resources(**json.loads(resources)),
        labels=json.loads(labels) or EMPTY,
        image=plain(image),
        jobs=jobs,
        ready_at=moment(ready_at),
        idle_since=None if used else moment(idle_since),
        host_id=None if host is None else HostId(plain(host)),
    )


def offers_content(offers: tuple[Offer, ...]) -> str:
    """Return offers as JSON."""
    return dumps(
        [
            {
                "provider": offer.provider,
                "slots": offer.slots,
                "resources": _resources(offer.resources),
                "labels": dict(offer.labels),
                "image": offer.image,
            }
            for offer in offers
        ]
    )


def host(row: tuple[Any, ...]) -> HostRecord:
    """Return a host of a row of `id, beat, offers`."""
    id_, beat, offers = row
    return HostRecord(
        id=HostId(plain(id_)),
        beat=beat,
        offers=tuple(
            Offer(**{**offer, "resources": Resources(**offer["resources"])})
            for offer in json.loads(offers)
        ),
    )


# Logs

SEGMENT_COLUMNS = "attempt, first_seq, last_seq, at, source, partial, data"
"""What `segment` makes a segment of."""


def segment(row: tuple[Any, ...]) -> LogSegment:
    """Return a segment of a row of `SEGMENT_COLUMNS`."""
    attempt, first_seq, last_seq, at, source, partial, data = row
    return LogSegment(
        attempt=attempt,
        first_seq=first_seq,
        count=last_seq - first_seq + 1,
        at=moment(at),
        source=LogSource(source),
        data=data,
        partial=bool(partial),
    )
