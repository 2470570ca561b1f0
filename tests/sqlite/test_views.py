"""The views say what the library says, in columns that people read."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from hodei_core import Backoff, Hodei, Retention, RetryPolicy
from hodei_core.backends.memory import MemoryProvider
from hodei_core.backends.sqlite import SqliteStore, schema
from hodei_core.executions import Execution, Output
from hodei_core.logs import LogSource
from hodei_core.ports import Retain
from hodei_core.testing.contracts.samples import at
from tests.sqlite.keeping import ended, opened

COLUMNS = {
    "job_summary": "id name state reason exit_code attempts submitted_at started_at finished_at "
    "duration worker host log_bytes command",
    "attempts": "job_id name attempt provider worker host assigned_at started_at finished_at "
    "duration reason exit_code cpu max_rss_bytes",
    "queue": "job_id name priority waiting_for submitted_at due_at overdue attempts cpus "
    "memory_bytes provider image requires",
    "job_log": "job_id attempt first_seq last_seq at source partial text",
    "worker_summary": "id provider state slots_used slots cpus memory_bytes image labels ready_at "
    "idle_since host",
    "host_summary": "id beat workers slots slots_used providers",
}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FAILS = RetryPolicy(max_attempts=2, backoff=Backoff(first=0.001))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def rows(path: Path, statement: str, *arguments: object) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement, arguments)]


def close_to(shown: str, instant: datetime | None) -> bool:
    """Return whether a column shows an instant, to the millisecond."""
    assert INSTANT.fullmatch(shown)
    assert instant is not None
    told = datetime.fromisoformat(shown.replace("Z", "+00:00"))
    return abs((told - instant).total_seconds()) < 0.0011


async def work(execution: Execution, output: Output) -> int:
    if execution.spec.name == "waits":
        await output.write(b"here\n")
        await anyio.sleep_forever()
    await output.write(b"one\ntwo\n")
    await output.write(b"oops\n", LogSource.STDERR)
    return 3 if execution.spec.name == "fails" else 0


def host(path: Path) -> Hodei:
    return Hodei(SqliteStore(path), providers=[MemoryProvider(work, slots=1)], shutdown_timeout=0)


async def test_a_new_file_has_the_documented_views_and_columns(path: Path) -> None:
    async with opened(path):
        with closing(sqlite3.connect(path)) as connection:
            found = {
                name: " ".join(row[1] for row in connection.execute(f"pragma table_info({name})"))
                for (name,) in connection.execute(
                    "select name from sqlite_master where type = 'view'"
                )
            }
    assert found == COLUMNS


async def test_the_views_are_made_anew_by_each_step_of_the_schema(path: Path) -> None:
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("drop view queue")
        connection.execute("drop view attempts")
        connection.execute("create view attempts as select 1 as old")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, (*schema.STEPS, ""))
    assert rows(path, "select * from queue") == []
    assert "old" not in {row["name"] for row in rows(path, "pragma table_info(attempts)")}


async def test_a_summary_tells_of_each_job_the_last_first(path: Path) -> None:
    async with host(path) as hodei:
        done = await hodei.run("make  all", name="works")
        failed = await hodei.run(["sh", "-c", "it's; x", ""], name="fails", retry=FAILS)
        job = await hodei.submit("true", delay=3600)
        later, second, first = rows(path, "select * from job_summary")
    assert (first["name"], first["state"], first["reason"]) == ("works", "succeeded", "")
    assert (first["command"], first["exit_code"], first["attempts"]) == ("make  all", 0, 1)
    assert first["log_bytes"] == 13
    assert first["worker"] == done.attempts[-1].worker_id
    assert first["duration"] == pytest.approx(done.duration.total_seconds(), abs=0.002)  # type: ignore[union-attr]
    for name in ("submitted_at", "started_at", "finished_at"):
        assert close_to(first[name], getattr(done, name))
    assert (second["id"], second["state"], second["reason"]) == (
        failed.job_id,
        "failed",
        "exit_code",
    )
    assert (second["exit_code"], second["attempts"], second["log_bytes"]) == (3, 2, 26)
    assert second["command"] == """sh -c 'it'"'"'s; x' ''"""
    assert (later["id"], later["state"], later["reason"]) == (job.id, "pending", "delay")
    assert (later["started_at"], later["duration"], later["worker"]) == (None, None, None)


async def test_attempts_are_rows_of_their_own(path: Path) -> None:
    async with host(path) as hodei:
        result = await hodei.run("x", name="fails", retry=FAILS)
        found = rows(path, "select * from attempts where job_id = ?", result.job_id)
    for row, attempt in zip(found, result.attempts, strict=True):
        assert (row["attempt"], row["reason"], row["exit_code"]) == (attempt.number, "exit_code", 3)
        assert (row["worker"], row["provider"]) == (attempt.worker_id, "memory")
        assert close_to(row["assigned_at"], attempt.assigned_at)
        assert close_to(row["finished_at"], attempt.finished_at)
        assert row["host"]


async def test_the_queue_is_in_the_order_in_which_jobs_are_taken(path: Path) -> None:
    async with host(path) as hodei:
        running = await hodei.submit("x", name="waits")
        await anext(aiter(running.logs()))
        for name, priority, delay in (("c", 0, 0), ("d", 0, 50), ("a", 9, 0), ("b", 9, 0)):
            await hodei.submit("x", name=name, priority=priority, delay=delay or None)
        await hodei.submit("x", name="e", delay=99, requires={"gpu": "yes"})
        found = rows(path, "select * from queue")
    assert [row["name"] for row in found] == ["a", "b", "c", "d", "e"]
    assert [row["waiting_for"] for row in found] == ["capacity"] * 3 + ["delay"] * 2
    assert 0 <= found[0]["overdue"] < 60
    assert -100 < found[4]["overdue"] < -60
    assert (found[4]["cpus"], found[4]["requires"]) == (1, '{"gpu":"yes"}')


async def test_a_log_is_text_in_order_and_says_what_is_lost(path: Path) -> None:
    async with opened(path) as driver:
        job = await ended(driver, "job", log=b"one\ntwo\n")
        assert rows(path, "select * from job_log") == [
            {
                "job_id": "job",
                "attempt": 1,
                "first_seq": 1,
                "last_seq": 2,
                "at": "2020-01-01T00:00:00.000Z",
                "source": "stdout",
                "partial": 0,
                "text": "one\ntwo",
            }
        ]
        policy = Retention(max_age=None, max_log_bytes=0)
        await driver.apply(Retain(policy, at(9)))
        (gap,) = rows(path, "select * from job_log where job_id = ?", job.id)
        assert (gap["first_seq"], gap["last_seq"], gap["source"]) == (1, 2, "system")
        assert gap["text"] == "(2 entries are no longer stored)"


async def test_a_log_is_found_without_reading_those_of_others(path: Path) -> None:
    async with opened(path):
        plan = rows(path, "explain query plan select text from job_log where job_id = 'x'")
    assert not [row["detail"] for row in plan if re.search(r"SCAN (j|l|b)\b", row["detail"])]


async def test_workers_and_hosts_are_shown(path: Path) -> None:
    async with host(path) as hodei:
        running = await hodei.submit("x", name="waits")
        await anext(aiter(running.logs()))
        (worker,) = rows(path, "select * from worker_summary")
        (shown,) = rows(path, "select * from host_summary")
        assert (worker["state"], worker["slots_used"], worker["slots"]) == ("busy", 1, 1)
        assert (worker["cpus"], worker["idle_since"]) == (1, None)
        assert worker["host"] == shown["id"]
        assert (shown["workers"], shown["slots"], shown["slots_used"]) == (1, 1, 1)
        assert shown["providers"] == "memory"
        await running.cancel()
        (worker,) = rows(path, "select * from worker_summary")
        assert (worker["state"], worker["slots_used"]) == ("ready", 0)
        assert INSTANT.fullmatch(worker["idle_since"])
