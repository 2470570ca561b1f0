"""What the file of a store holds at one instant, and what must hold of it at every instant."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from hodei_core.backends.sqlite.pruning import SEGMENT_BYTES

FINAL = ("succeeded", "failed", "cancelled", "timed_out")
Row = dict[str, Any]


@attrs.frozen
class Image:
    """The rows of a store; all empty where the schema was not made yet."""

    integrity: str = "ok"
    jobs: dict[str, Row] = attrs.field(factory=dict)
    """By id, their attempts as values."""

    logs: dict[tuple[int, int], Row] = attrs.field(factory=dict)
    """Segments by the job's number and their first entry."""

    last: dict[int, int] = attrs.field(factory=dict)
    """The number of the last entry of a job's log."""

    counts: dict[str, int] = attrs.field(factory=dict)
    workers: dict[str, Row] = attrs.field(factory=dict)
    log_bytes: tuple[int, ...] = (0, 0, 0, 0)
    """What all logs hold: the total, the bytes by their bounds and by themselves, the segments."""

    told_twice: tuple[tuple[int, int, str], ...] = ()
    """Events that are there more than once, by job, version and kind."""

    hosts: tuple[str, ...] = ()

    def output(self, job: Row, attempt: int) -> bytes:
        """Return what an attempt printed on stdout, as far as it is stored."""
        return b"".join(
            row["data"]
            for (of, _), row in sorted(self.logs.items())
            if of == job["seq"] and row["attempt"] == attempt and row["source"] == "stdout"
        )

    def is_torn(self, job: Row, attempt: int) -> bool:
        """Return whether the log says that the end of what an attempt printed may be missing."""
        return any(
            of == job["seq"] and row["attempt"] == attempt and row["source"] == "system"
            for (of, _), row in self.logs.items()
        )

    @property
    def unfinished(self) -> list[str]:
        return [f"{j['name']}: {j['state']}" for j in self.jobs.values() if j["state"] not in FINAL]


def take(store: Path) -> Image:
    """Return what a store holds that nobody has open; the file itself is not touched."""
    with tempfile.TemporaryDirectory(prefix="hodei-image-") as folder:
        copy = Path(folder, "jobs.db")
        for suffix in ("", "-wal", "-journal"):
            found = store.with_name(store.name + suffix)
            if found.exists():
                shutil.copyfile(found, copy.with_name(copy.name + suffix))
        if not copy.exists():
            return Image()
        with closing(sqlite3.connect(copy)) as sql:
            return _read(sql)


def _read(sql: sqlite3.Connection) -> Image:
    sql.row_factory = sqlite3.Row
    integrity = "; ".join(row[0] for row in sql.execute("pragma integrity_check"))
    tables = {name for (name,) in sql.execute("select name from sqlite_master")}
    if "jobs" not in tables:
        return Image(integrity if not tables else f"half a schema: {sorted(tables)}")
    jobs: dict[str, Row] = {}
    for row in sql.execute(
        "select j.*, k.key from jobs j left join keys k on k.seq = j.seq order by j.seq"
    ):
        job = dict(row)
        job["attempts"] = json.loads(job["attempts"])
        jobs[job["id"]] = job
    return Image(
        integrity=integrity,
        jobs=jobs,
        logs={(row["job"], row["first_seq"]): dict(row) for row in sql.execute(_LOGS)},
        last=dict(tuple(row) for row in sql.execute("select job, last from log_bounds")),
        counts=dict(tuple(row) for row in sql.execute("select state, jobs from counts")),
        workers={row["id"]: dict(row) for row in sql.execute("select * from workers")},
        log_bytes=tuple(sql.execute(_BYTES).fetchone()),
        told_twice=tuple(tuple(row) for row in sql.execute(_TWICE)),
        hosts=tuple(id_ for (id_,) in sql.execute("select id from hosts")),
    )


_BYTES = """
select (select bytes from totals where name = 'logs'),
    (select coalesce(sum(bytes), 0) from log_bounds),
    (select coalesce(sum(length(data)), 0) from logs),
    (select count(*) from logs)
"""
_TWICE = "select job, version, kind from events group by 1, 2, 3 having count(*) > 1"
_LOGS = "select job, first_seq, last_seq, attempt, source, partial, data from logs"


def problems(image: Image) -> Iterator[str]:
    """Yield what is wrong with an image, whatever led to it."""
    if image.integrity != "ok":
        yield f"integrity: {image.integrity}"
    yield from _bad_counts(image)
    total, bound, found, segments = image.log_bytes
    if bound != found or total != found + SEGMENT_BYTES * segments:
        yield f"the logs hold {image.log_bytes}: total, bounds, data, segments"
    if image.told_twice:
        yield f"events are there twice: {image.told_twice}"
    keys = Counter(j["key"] for j in image.jobs.values() if j["key"] and j["state"] not in FINAL)
    yield from (f"key {key} is held {held} times" for key, held in keys.items() if held > 1)
    for job in image.jobs.values():
        yield from _bad_job(job)
        yield from _bad_log(image, job)


def _bad_counts(image: Image) -> Iterator[str]:
    states = Counter(job["state"] for job in image.jobs.values())
    counts = {state: jobs for state, jobs in image.counts.items() if jobs}
    if counts != dict(states):
        yield f"the counters say {counts}, the rows {dict(states)}"
    held = Counter(job["worker"] for job in image.jobs.values() if job["worker"] is not None)
    for id_, worker in image.workers.items():
        if worker["slots_used"] != held[id_] or not 0 <= held[id_] <= worker["slots"]:
            yield f"worker {id_} says {worker['slots_used']} used, {held[id_]} attempts hold it"


def _bad_job(job: Row) -> Iterator[str]:
    name, attempts = job["name"], job["attempts"]
    is_open = job["state"] in ("assigned", "running")
    numbers = [attempt["number"] for attempt in attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"{name} has attempts {numbers}"
    unfinished = [a["number"] for a in attempts if "finished_at" not in a]
    if unfinished != ([len(numbers)] if is_open else []):
        yield f"{name} is {job['state']}, and its attempts {unfinished} have no end"
    if is_open != (job["worker"] is not None) or is_open != (job["attempt"] is not None):
        yield f"{name} is {job['state']} on {job['worker']} in attempt {job['attempt']}"
    if (job["state"] in FINAL) != (job["finished_at"] is not None):
        yield f"{name} is {job['state']} and finished_at is {job['finished_at']}"
    if (job["state"] == "pending") != (job["queued"] is not None):
        yield f"{name} is {job['state']} and queued is {job['queued']}"
    if job["state"] in FINAL and job["cancel_at"] is not None:
        yield f"{name} is {job['state']}, and its end is still asked for"


def _bad_log(image: Image, job: Row) -> Iterator[str]:
    rows = sorted(
        (row for (of, _), row in image.logs.items() if of == job["seq"]),
        key=lambda row: row["first_seq"],
    )
    last = attempt = 0
    for row in rows:
        if row["first_seq"] != last + 1 or row["last_seq"] < row["first_seq"]:
            yield f"the log of {job['name']} goes from {last} to {row['first_seq']}"
        if not attempt <= row["attempt"] <= len(job["attempts"]):
            yield f"the log of {job['name']} goes from attempt {attempt} to {row['attempt']}"
        last, attempt = row["last_seq"], row["attempt"]
    if last != image.last.get(job["seq"], 0):
        yield f"the log of {job['name']} ends at {last}, its bound is {image.last}"


def contradictions(before: Image, after: Image) -> Iterator[str]:
    """Yield what was true once, and must have stayed so."""
    for id_, old in before.jobs.items():
        new = after.jobs.get(id_)
        if new is None:
            yield f"{old['name']} is gone"
        elif old["state"] in FINAL and old != new:
            yield f"{old['name']} was final: {old}, then {new}"
        else:
            yield from _undone(old, new)
    for where, segment in before.logs.items():
        if after.logs.get(where) != segment:
            yield f"log segment {where} changed"


def _undone(old: Row, new: Row) -> Iterator[str]:
    if new["version"] < old["version"]:
        yield f"{old['name']} went from version {old['version']} to {new['version']}"
    if new["version"] == old["version"] and new["state"] != old["state"]:
        yield f"{old['name']} went from {old['state']} to {new['state']} in one version"
    for was, is_ in zip(old["attempts"], new["attempts"], strict=False):
        if "finished_at" in was and was != is_:
            yield f"an attempt of {old['name']} had ended: {was}, then {is_}"
    closed = sum("finished_at" in attempt for attempt in old["attempts"])
    if len(new["attempts"]) < closed:
        yield f"{old['name']} lost attempts: {old['attempts']}, then {new['attempts']}"
