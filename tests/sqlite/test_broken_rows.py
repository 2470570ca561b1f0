"""A stored row that cannot be read stops nobody else: it is skipped, and told of once."""

from __future__ import annotations

import ast
import logging
import sqlite3
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

import hodei_core.backends.sqlite
from hodei_core import Hodei, JobSpec, JobState, Reason, StoreInvalidError
from hodei_core.backends.memory import MemoryProvider
from hodei_core.executions import Execution
from hodei_core.ids import HostId, JobId
from hodei_core.ports import JobFilter, Needs
from hodei_core.testing.contracts.driver import StoreDriver
from hodei_core.testing.contracts.samples import at, segment, submission
from tests.sqlite.helpers import LIMIT, opened

SPEC = "update specs set content = '{}' where seq = (select seq from jobs where id = 'victim')"
JOB = "update jobs set {} where id = 'victim'"
EDITS = {
    "unknown state": JOB.format("state = 'weird'"),
    "state of a wrong type": JOB.format("state = 7"),
    "unknown wait": JOB.format("waiting_for = 'weird'"),
    "unknown reason": JOB.format("reason = 'weird'"),
    "instant of a wrong type": JOB.format("submitted_at = 'x'"),
    "instant far away": JOB.format("submitted_at = 9223372036854775807"),
    "broken attempts": JOB.format("attempts = '{'"),
    "attempts of a wrong type": JOB.format("attempts = '{\"a\": 1}'"),
    "attempts that lack a field": JOB.format("attempts = '[{}]'"),
    "broken returns": JOB.format("returns = 'x'"),
    "broken phases": JOB.format("phases = '[1]'"),
    "broken spec": SPEC.format("{"),
    "spec of a wrong type": SPEC.format("[1]"),
    "unknown field": SPEC.format('{"command": "true", "more": 1}'),
    "forbidden value": SPEC.format('{"command": "true", "priority": "x"}'),
    "no command": SPEC.format("{}"),
}


def edit(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute(statement).rowcount
    connection.commit()
    connection.close()


async def run(_execution: Execution, _output: object) -> int:
    return 3


@pytest.mark.parametrize("statement", EDITS.values(), ids=EDITS)
async def test_a_host_goes_on_past_a_job_that_cannot_be_read(
    tmp_path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        for name in ("victim", "other"):
            await driver.accept(submission(name, seconds=10**9, key=name))
    edit(path, statement)
    with anyio.fail_after(LIMIT), caplog.at_level(logging.WARNING):
        async with Hodei(path, providers=[MemoryProvider(run)]) as hodei:
            assert (await hodei.handle("other").wait()).exit_code == 3
            assert (await hodei.run("true")).exit_code == 3
            assert "victim" not in [job.id for job in await hodei.list_jobs()]
            assert (await hodei.stats()).pending <= 1
            for call in (hodei.get_job("victim"), hodei.handle("victim").wait()):
                with pytest.raises(StoreInvalidError, match="victim") as raised:
                    await call
                assert raised.value.job_id == "victim"
            with pytest.raises(StoreInvalidError, match="victim"):
                await hodei.submit("true", key="victim")
            assert await hodei.cancel_jobs() == 0
            assert (await hodei.run("true")).exit_code == 3
            assert await hodei.prune(older_than=0) >= 2


@pytest.mark.parametrize("statement", EDITS.values(), ids=EDITS)
async def test_who_waits_for_a_job_that_becomes_unreadable_stops_nobody(
    tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with opened(path) as driver:
            await driver.accept(submission("victim", seconds=10**9, delay=3600))
        async with Hodei(path, providers=[MemoryProvider(run)]) as hodei:

            async def wait() -> None:
                with suppress(StoreInvalidError):  # it may be told, and nobody else
                    await hodei.handle("victim").wait()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                edit(path, statement)
                for _ in range(3):
                    assert (await hodei.run("true")).exit_code == 3
                tasks.cancel_scope.cancel()


async def test_a_row_that_cannot_be_read_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await driver.add("told-once")
        edit(tmp_path / "jobs.db", "update jobs set state = 'weird'")
        for _ in range(3):
            assert await driver.store.jobs.select(JobFilter(), limit=None) == []
    assert [record.getMessage() for record in caplog.records if "told-once" in record.message] == [
        "job 'told-once' cannot be read: ValueError(\"'weird' is not a valid JobState\")"
    ]


async def test_many_of_them_in_front_hide_nobody(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await driver.accept(*[submission(f"job-{number:03}") for number in range(300)])
        edit(path, "update jobs set attempts = 'x' where id < 'job-290'")
        assert await driver.waiting(limit=4) == [f"job-{number}" for number in range(290, 294)]
        overdue = await driver.store.queue.overdue(at(10), None, 4)
        assert [job.id for job in overdue] == [f"job-{number}" for number in range(290, 294)]
        page = await driver.store.jobs.select(JobFilter(), limit=20)
        assert len(page) == 10


async def test_changes_pass_by_it(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await driver.add_worker()
        later = [await driver.add(name, delay=1) for name in ("victim", "other")]
        job = await driver.start(await driver.add("running"))
        edit(path, "update specs set content = 'x' where seq = 1")
        assert await driver.mark_due(5) == ["other"]
        assert await driver.store.queue.next_due() is None
        assert [job.id for job in (await driver.request_cancel(*later)).jobs] == ["other"]
        outcome = await driver.try_move(later[0], later[0].due())
        assert (outcome.applied, outcome.jobs) == (True, ())
        edit(path, "update jobs set version = 9 where id = 'victim'")
        outcome = await driver.try_move(later[0], later[0].due())
        assert (outcome.applied, outcome.jobs) == (False, ())
        edit(path, "update jobs set attempts = 'x', cancel_at = 'x' where id = 'running'")
        assert (await driver.finish(job)).state is JobState.SUCCEEDED


async def test_who_waits_for_all_jobs_does_not_wait_for_what_cannot_be_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        for name in ("victim", "two", "three"):
            await driver.add(name)
    edit(path, EDITS["broken spec"])
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[MemoryProvider(run)]) as hodei:
            await hodei.join()
            stats = await hodei.stats()
            assert (stats.jobs[JobState.PENDING], stats.jobs[JobState.FAILED]) == (1, 2)


@pytest.mark.parametrize("count", [1, 120])
async def test_jobs_that_somebody_ended_by_hand_keep_no_other_from_expiring(
    tmp_path: Path, count: int
) -> None:
    path = tmp_path / "jobs.db"
    async with Hodei(path, providers=[]) as client:
        spec = JobSpec("true", pending_timeout=0.2, requires={"gpu": "yes"})
        await client.submit_many([spec] * count)
        waits = await client.submit("true", pending_timeout=0.4, requires={"gpu": "yes"})
    edit(path, f"update jobs set state = 'cancelled' where id <> '{waits.id}'")
    with anyio.fail_after(LIMIT / 4):
        async with Hodei(path, providers=[MemoryProvider(run)]) as hodei:
            result = await hodei.handle(waits.id).wait()
    assert result.reason is Reason.PENDING_TIMEOUT


@pytest.mark.parametrize("state", ["failed", "cancelled", "pending"])
async def test_a_job_of_a_dead_host_that_somebody_ended_by_hand_stops_nobody(
    tmp_path: Path, state: str
) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await driver.add_worker()
        await driver.assign(await driver.add("victim"))
    edit(path, JOB.format(f"state = '{state}', host = 'dead'"))
    edit(path, "delete from workers")
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[MemoryProvider(run, name="provider")]) as hodei:
            assert (await hodei.run("true")).exit_code == 3


async def test_needs_workers_hosts_and_requests_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        hosts = driver.store.hosts
        assert hosts is not None
        await driver.add_worker("one")
        await driver.add_worker("two")
        await driver.add("plain")
        await driver.add("special", requires={"gpu": "yes"})
        job = await driver.add("unwanted")
        await driver.request_cancel(job)
        edit(path, "update needs set content = '{' where content like '%gpu%'")
        edit(path, "update workers set state = 'weird' where id = 'one'")
        edit(path, "insert into hosts (id, beat, offers) values ('x', 1, '{')")
        edit(path, "update jobs set cancel_at = 'x' where id = 'unwanted'")
        assert await driver.store.queue.needs() == [Needs()]
        assert [worker.id for worker in await driver.store.workers.select()] == ["two"]
        assert await hosts.select() == []
        assert await hosts.cancel_requests(HostId("host")) == []


async def test_a_log_that_cannot_be_read_is_its_readers_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await driver.add_worker()
        for name in ("one", "two"):
            job = await driver.start(await driver.add(name))
            await driver.append(job, segment(1, b"line\n"))
        edit(path, "update logs set source = 'weird' where job = 1")
        with pytest.raises(StoreInvalidError, match="log of job one"):
            await driver.store.logs.read(JobId("one"), after=0, max_bytes=99)
        assert len(await driver.store.logs.read(JobId("two"), after=0, max_bytes=99)) == 1


async def test_columns_and_tables_of_others_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await use(driver, "before")
    for statement in (
        "alter table jobs add column mine text default 'x'",
        "alter table specs add column mine text",
        "alter table workers add column mine text",
        "create table mine (a)",
    ):
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.close()
    async with opened(path) as driver:
        await use(driver, "after")
        assert await driver.total() == 2


async def use(driver: StoreDriver, name: str) -> None:
    await driver.add_worker()
    job = await driver.add(name, labels={"a": "b"})
    assert await driver.finish(job) == await driver.get(name)


def test_no_module_of_the_store_can_run_what_is_stored() -> None:
    """Whoever may write the file must not thereby run code."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "yaml", "eval", "exec", "compile"}
    assert hodei_core.backends.sqlite.__file__ is not None
    found = set()
    for path in Path(hodei_core.backends.sqlite.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names]
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            elif isinstance(node, ast.Call):
                names = [getattr(node.func, "id", "")]
            else:
                continue
            found |= {(path.name, name) for name in names if name.split(".")[0] in forbidden}
    assert found == set()
