"""What `--format json` prints: one object a line, with the fields that docs/cli.md names."""

from __future__ import annotations

import base64
import json
from datetime import datetime

from hodei_core.explanations import Explanation
from hodei_core.jobs import Attempt, Job
from hodei_core.logs import LogEntry
from hodei_core.results import JobResult
from hodei_core.stats import Stats
from hodei_core.workers import Worker


def json_line(fields: dict[str, object]) -> bytes:
    """Return an object as the program prints it, in UTF-8 and with its newline."""
    # A name that is no UTF-8 holds lone surrogates; written as escapes they are valid JSON.
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def entry_fields(entry: LogEntry) -> dict[str, object]:
    """Return the fields of a log entry."""
    data = entry.data.removesuffix(b"\n")
    text = entry.text
    return {
        "type": "log",
        "job_id": entry.job_id,
        "attempt": entry.attempt,
        "seq": entry.seq,
        "at": entry.at.isoformat(),
        "source": entry.source.value,
        "text": text,
        "newline": len(data) < len(entry.data),
        "base64": None if text.encode() == data else base64.b64encode(data).decode("ascii"),
        "partial": entry.partial,
        "lost": entry.lost,
    }


def result_fields(result: JobResult) -> dict[str, object]:
    """Return how a job ended."""
    return {
        "type": "result",
        "job_id": result.job_id,
        "name": result.name,
        "command": result.command,
        "state": result.state.value,
        "reason": None if result.reason is None else result.reason.value,
        "message": result.message,
        "exit_code": result.exit_code,
        "submitted_at": result.submitted_at.isoformat(),
        "started_at": _instant(result.started_at),
        "finished_at": result.finished_at.isoformat(),
        "seconds": None if result.duration is None else result.duration.total_seconds(),
        "attempts": [_attempt(attempt) for attempt in result.attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, object]:
    usage = attempt.usage
    return {
        "number": attempt.number,
        "worker_id": attempt.worker_id,
        "provider": attempt.provider,
        "assigned_at": attempt.assigned_at.isoformat(),
        "started_at": _instant(attempt.started_at),
        "finished_at": _instant(attempt.finished_at),
        "reason": None if attempt.reason is None else attempt.reason.value,
        "exit_code": attempt.exit_code,
        "cpu_seconds": None if usage is None else usage.cpu.total_seconds(),
        "max_rss_bytes": None if usage is None else usage.max_rss_bytes,
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def job_fields(job: Job) -> dict[str, object]:
    """Return the fields of a job; of its environment and its input nothing is told."""
    spec = job.spec
    return {
        "type": "job",
        "job_id": job.id,
        "name": spec.name,
        "command": spec.command,
        "state": job.state.value,
        "waiting_for": None if job.waiting_for is None else job.waiting_for.value,
        "reason": None if job.reason is None else job.reason.value,
        "message": job.message,
        "exit_code": job.exit_code,
        "submitted_at": job.submitted_at.isoformat(),
        "due_at": job.due_at.isoformat(),
        "started_at": _instant(job.started_at),
        "finished_at": _instant(job.finished_at),
        "seconds": None
        if job.started_at is None or job.finished_at is None
        else (job.finished_at - job.started_at).total_seconds(),
        "attempts": [_attempt(attempt) for attempt in job.attempts],
        "retried_from": job.retried_from,
        "key": spec.key,
        "priority": spec.priority,
        "labels": dict(spec.labels),
        "requires": dict(spec.requires),
        "provider": spec.provider,
        "prefers": spec.prefers,
        "image": spec.image,
        "cwd": spec.cwd,
        "shell": list(spec.shell),
        "cpus": spec.resources.cpus,
        "memory_bytes": spec.resources.memory,
        "timeout_seconds": None if spec.timeout is None else spec.timeout.total_seconds(),
        "max_attempts": spec.retry.max_attempts,
        "version": job.version,
    }


def worker_fields(worker: Worker) -> dict[str, object]:
    """Return the fields of a worker."""
    return {
        "type": "worker",
        "worker_id": worker.id,
        "provider": worker.provider,
        "host_id": worker.host_id,
        "state": worker.state.value,
        "slots": worker.slots,
        "slots_used": worker.slots_used,
        "cpus": worker.resources.cpus,
        "memory_bytes": worker.resources.memory,
        "labels": dict(worker.labels),
        "image": worker.image,
        "jobs": list(worker.jobs),
        "ready_at": _instant(worker.ready_at),
        "idle_since": _instant(worker.idle_since),
    }


def stats_fields(stats: Stats, hosts: int) -> dict[str, object]:
    """Return the counts of a store, and of the hosts that are registered in it."""
    return {
        "type": "stats",
        "hosts": hosts,
        "pending": stats.pending,
        "jobs": {state.value: count for state, count in stats.jobs.items()},
        "workers": {state.value: count for state, count in stats.workers.items()},
        "slots_used": stats.slots_used,
        "slots_total": stats.slots_total,
    }


def explanation_fields(explanation: Explanation) -> dict[str, object]:
    """Return why a job is where it is."""
    return {
        "type": "explanation",
        "job_id": explanation.job_id,
        "state": explanation.state.value,
        "summary": explanation.summary,
        "position": explanation.position,
        "workers": [
            {"worker_id": worker, "reason": reason} for worker, reason in explanation.workers
        ],
        "providers": [
            {"provider": provider, "reason": reason} for provider, reason in explanation.providers
        ],
        "history": [
            {"phase": kind.value, "seconds": lasted.total_seconds(), "reason": reason}
            for kind, lasted, reason in explanation.history
        ],
    }
