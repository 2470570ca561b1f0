"""What text shows of jobs, workers and counts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime

from hodei_core.cli.console import ByteWriter
from hodei_core.cli.tables import Cell, Column, Paper, age, instant, span, visible
from hodei_core.clock import SystemClock
from hodei_core.jobs import Attempt, Job
from hodei_core.states import JobState, Reason
from hodei_core.stats import Stats
from hodei_core.workers import Worker

_JOBS = (
    Column("ID"),
    Column("STATE"),
    Column("AGE", right=True),
    Column("TOOK", right=True, least=60),
    Column("WHY", least=72),
    Column("JOB", cut=True),
)
_ATTEMPTS = (
    Column("ATTEMPT", right=True),
    Column("WORKER", least=60),
    Column("TOOK", right=True),
    Column("CODE", right=True),
    Column("REASON"),
    Column("CPU", right=True, least=60),
    Column("MEMORY", right=True, least=72),
)
_WORKERS = (
    Column("WORKER", cut=True),
    Column("STATE"),
    Column("SLOTS", right=True),
    Column("CPUS", right=True, least=50),
    Column("MEMORY", right=True, least=60),
    Column("IDLE", right=True, least=60),
    Column("JOBS", cut=True),
)


def jobs_table(out: ByteWriter, jobs: Sequence[Job]) -> str:
    """Return jobs, one a line."""
    paper, now = Paper(out), SystemClock().now()
    return paper.table(_JOBS, [_job_row(paper, job, now) for job in jobs])


def _job_row(paper: Paper, job: Job, now: datetime) -> list[Cell]:
    return [
        paper.job_id(job.id),
        job.state,
        age(job.submitted_at, now),
        _took(job, now),
        _why(job),
        job.spec.name or command(job),
    ]


def command(job: Job) -> str:
    """Return the command as one would write it."""
    given = job.spec.command
    return given if isinstance(given, str) else shlex.join(given)


def _took(job: Job | Attempt, now: datetime) -> str:
    if job.started_at is None:
        return "-"
    return span((job.finished_at or now) - job.started_at)


def _why(job: Job) -> str:
    if job.waiting_for is not None:
        return job.waiting_for.name
    if job.reason in (Reason.EXIT_CODE, Reason.SIGNALLED):
        return f"exit {job.exit_code}"
    return "-" if job.reason in (None, Reason.CANCELLED) else job.reason.name


def job_page(out: ByteWriter, job: Job) -> str:
    """Return all of a job: a line for each fact, and a table of its attempts."""
    paper, now = Paper(out), SystemClock().now()
    facts = [(name, value) for name, value in _facts(job, now) if value]
    width = max(len(name) for name, _ in facts)
    lines = "".join(f"{name:{width}}  {visible(value)}\n" for name, value in facts)
    if not job.attempts:
        return lines
    return f"{lines}\n{paper.table(_ATTEMPTS, [_attempt_row(a, now) for a in job.attempts])}"


def _facts(job: Job, now: datetime) -> list[tuple[str, str]]:
    spec = job.spec
    why = _why(job)
    started, finished = job.started_at, job.finished_at
    return [
        ("id", job.id),
        ("name", spec.name or ""),
        ("state", job.state.name + ("" if why == "-" else f" ({why})")),
        ("message", job.message or ""),
        ("command", command(job)),
        ("directory", spec.cwd or ""),
        ("image", spec.image or ""),
        ("provider", spec.provider or ""),
        ("needs", str(spec.resources)),
        ("timeout", "" if spec.timeout is None else span(spec.timeout)),
        ("attempts", f"{len(job.attempts)} of at most {spec.retry.max_attempts}"),
        ("priority", str(spec.priority) if spec.priority else ""),
        ("labels", " ".join(f"{name}={value}" for name, value in spec.labels.items())),
        ("key", spec.key or ""),
        ("retried from", job.retried_from or ""),
        ("submitted", instant(job.submitted_at, now)),
        ("due", instant(job.due_at, now) if job.state is JobState.PENDING else ""),
        ("started", "" if started is None else instant(started, now)),
        ("finished", "" if finished is None else instant(finished, now)),
        ("took", "" if started is None else _took(job, now)),
    ]


def _attempt_row(attempt: Attempt, now: datetime) -> list[Cell]:
    usage = attempt.usage
    return [
        str(attempt.number),
        attempt.worker_id,
        _took(attempt, now),
        "-" if attempt.exit_code is None else str(attempt.exit_code),
        "-" if attempt.reason is None else attempt.reason.name,
        "-" if usage is None else span(usage.cpu),
        "-" if usage is None else _size(usage.max_rss_bytes),
    ]


def workers_table(out: ByteWriter, workers: Sequence[Worker]) -> str:
    """Return workers, one a line."""
    paper, now = Paper(out), SystemClock().now()
    return paper.table(
        _WORKERS,
        [
            [
                worker.id,
                worker.state,
                f"{worker.slots_used}/{worker.slots}",
                f"{worker.resources.cpus:g}",
                "-" if worker.resources.memory is None else _size(worker.resources.memory),
                "-" if worker.idle_since is None else age(worker.idle_since, now),
                " ".join(paper.job_id(job_id) for job_id in worker.jobs) or "-",
            ]
            for worker in workers
        ],
    )


def stats_page(stats: Stats, hosts: int) -> str:
    """Return counts, a line each; of states only those that are there."""
    rows: list[list[Cell]] = [["hosts", str(hosts)]]
    rows.append(["slots", f"{stats.slots_used} of {stats.slots_total} in use"])
    for worker_state, count in stats.workers.items():
        if count:
            rows.append([f"workers {worker_state.name}", str(count)])
    rows.extend([f"jobs {state.name}", str(count)] for state, count in stats.jobs.items())
    width = max(len(str(name)) for name, _ in rows)
    return "".join(f"{name:{width}}  {value}\n" for name, value in rows)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
