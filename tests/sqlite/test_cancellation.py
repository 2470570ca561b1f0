"""A call that is cancelled, at whichever of its awaits, is in or out, and disturbs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from hodei_core.backends.sqlite import SqliteStore
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import (
    Accept,
    Advance,
    AppendLogs,
    CancelRequest,
    Change,
    Cover,
    JobFilter,
    JoinHost,
    MarkDue,
    Needs,
    Prune,
    PutWorker,
    RemoveHost,
    RemoveWorker,
    RenewHost,
    RequestCancel,
    Store,
)
from hodei_core.testing.checkpoints import _Stepped, count_checkpoints, run_cancelled_at
from hodei_core.testing.contracts.driver import StoreDriver
from hodei_core.testing.contracts.samples import WORKER, at, segment, submission, worker
from tests.sqlite.helpers import LIMIT, opened

Ready = Callable[[StoreDriver], Awaitable[Change]]
"""Puts into a store what a change needs, and returns the change."""

MOST = 40  # checkpoints that a call may have


async def accept(_driver: StoreDriver) -> Change:
    return Accept((submission("new-1", key="k"), submission("new-2", labels={"a": "b"})))


async def advance(driver: StoreDriver) -> Change:
    await driver.add_worker()
    job = await driver.add("job")
    return Advance(job.assigned(WORKER, "provider", at(1)), job.version)


async def request_cancel(driver: StoreDriver) -> Change:
    job = await driver.add("job")
    return RequestCancel((job.id,), CancelRequest(at=at(0), reason="why"))


async def mark_due(driver: StoreDriver) -> Change:
    await driver.add("job", delay=1)
    return MarkDue(at(5))


async def append_logs(driver: StoreDriver) -> Change:
    await driver.add_worker()
    job = await driver.start(await driver.add("job"))
    return AppendLogs(job.id, (segment(1, b"one\n"), segment(2, b"two\n")))


async def put_worker(_driver: StoreDriver) -> Change:
    return PutWorker(worker("another"))


async def remove_worker(driver: StoreDriver) -> Change:
    await driver.add_worker("another")
    return RemoveWorker(WorkerId("another"))


async def join_host(_driver: StoreDriver) -> Change:
    return JoinHost(HostRecord(id=HostId("another")))


async def renew_host(driver: StoreDriver) -> Change:
    await driver.apply(JoinHost(HostRecord(id=HostId("another"))))
    return RenewHost(HostRecord(id=HostId("another"), beat=1))


async def remove_host(driver: StoreDriver) -> Change:
    await driver.apply(JoinHost(HostRecord(id=HostId("another"))))
    return RemoveHost(HostId("another"))


async def cover(driver: StoreDriver) -> Change:
    await driver.apply(JoinHost(HostRecord(id=HostId("another"))))
    job = await driver.add("job")
    return Cover((job.id,), HostId("another"), at(10**9))


async def prune(driver: StoreDriver) -> Change:
    await driver.cancel(await driver.add("job"))
    return Prune(at(1_000))


CHANGES = [
    accept,
    advance,
    request_cancel,
    mark_due,
    append_logs,
    put_worker,
    remove_worker,
    join_host,
    renew_host,
    remove_host,
    cover,
    prune,
]


async def content(path: Path) -> list[tuple[Any, ...]]:
    """Return every row of a file, but for which opening of it did what."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("create temp table events as select * from main.events")
        connection.execute("update temp.events set writer = 0")
        names = connection.execute("select name from sqlite_master where type = 'table'")
        return [
            (name, *row)
            for (name,) in sorted(names.fetchall())
            for row in connection.execute(f'select * from "{name}" order by 1, 2')
        ]
    finally:
        connection.close()


async def check_usable(driver: StoreDriver) -> None:
    """Take one job through its life."""
    await driver.add_worker("usable")
    job = await driver.add("usable", key="usable")
    running = await driver.start(await driver.assign(job, "usable"))
    await driver.append(running, segment(1, b"line\n"))
    final = await driver.finish(running)
    assert await driver.get("usable") == final


async def by_scope(call: Coroutine[Any, Any, object], step: int) -> None:
    await run_cancelled_at(call, step)


async def by_event_loop(call: Coroutine[Any, Any, object], step: int) -> None:
    """Cancel as `asyncio.run` does at the end of a program: no scope shields from that."""

    async def cancelled() -> None:
        inner = asyncio.current_task()
        assert inner is not None

        def at_step(current: int) -> None:
            if current == step:
                inner.cancel()

        at_step(0)
        await _Stepped(call, at_step)

    await asyncio.wait([asyncio.ensure_future(cancelled())])


WAYS = [by_scope, by_event_loop]


def another(company: str) -> list[Change]:
    """Return the change of another call: one that is begun at once, or that waits for company."""
    if company == "alone":
        return []
    if company == "behind another":
        return [PutWorker(worker("ahead"))]
    return [Accept((submission("beside"),))]


async def applied(store: Store, change: Change | None, company: str) -> None:
    """Make a change, alone or in the company of another; None: only that other."""
    others = [asyncio.ensure_future(store.apply([other])) for other in another(company)]
    try:
        if others:
            await asyncio.sleep(0)
        if change is not None:
            await store.apply([change])
    finally:
        for other in others:
            while not other.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(other)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("company", ["alone", "behind another", "beside another"])
@pytest.mark.parametrize("ready", CHANGES, ids=lambda ready: ready.__name__)
async def test_a_cancelled_change_is_wholly_in_or_out(
    tmp_path: Path, ready: Ready, company: str, way: Callable[..., Awaitable[None]]
) -> None:
    with anyio.fail_after(LIMIT):
        async with opened(tmp_path / "before.db") as driver:
            await ready(driver)
            await applied(driver.store, None, company)
            before = await content(tmp_path / "before.db")
        async with opened(tmp_path / "after.db") as driver:
            change = await ready(driver)
            steps = await count_checkpoints(applied(driver.store, change, company))
            after = await content(tmp_path / "after.db")
        assert before != after
        assert 1 <= steps < MOST
        seen = set()
        for step in range(steps + 1):
            path = tmp_path / f"{step}.db"
            async with opened(path) as driver:
                change = await ready(driver)
                await way(applied(driver.store, change, company), step)
                await driver.store.apply([])  # what was left behind would be committed by now
                found = await content(path)
                assert found in (before, after), f"cancelled at checkpoint {step}"
                seen.add(found == after)
                await check_usable(driver)
        # Behind a commit it may be taken back; in one it is not, whoever else is in it.
        if company == "alone":
            assert seen == {True}
        elif company == "beside another":  # before it is handed in it is out, and in from then on
            assert seen == {False, True}
        else:
            assert False in seen


async def fill(driver: StoreDriver) -> Job:
    await driver.add_worker()
    job = await driver.start(await driver.add("job", name="name", labels={"a": "b"}))
    await driver.append(job, segment(1, b"one\n"))
    await driver.add("later", delay=9)
    await driver.add("waiting")
    return job


def readers(store: Store, job_id: JobId) -> dict[str, Callable[[], Coroutine[Any, Any, object]]]:
    hosts = store.hosts
    assert hosts is not None
    far = at(10**9)
    return {
        "get": lambda: store.jobs.get(job_id),
        "select": lambda: store.jobs.select(
            JobFilter(name="name", labels={"a": "b"}), limit=5, after=JobId("waiting")
        ),
        "counts": store.jobs.counts,
        "needs": store.queue.needs,
        "peek": lambda: store.queue.peek(Needs(), 5),
        "position": lambda: store.queue.position(JobId("waiting")),
        "next due": store.queue.next_due,
        "overdue": lambda: store.queue.overdue(far + timedelta(days=1), None, 5),
        "workers": store.workers.select,
        "bounds": lambda: store.logs.bounds(job_id),
        "read": lambda: store.logs.read(job_id, after=0, max_bytes=99),
        "read back": lambda: store.logs.read_back(job_id, before=9, max_bytes=99),
        "hosts": hosts.select,
        "abandoned workers": hosts.abandoned_workers,
        "abandoned jobs": hosts.abandoned_jobs,
        "requests": lambda: hosts.cancel_requests(HostId("host")),
    }


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_cancelled_reader_disturbs_nobody(
    tmp_path: Path, way: Callable[..., Awaitable[None]]
) -> None:
    with anyio.fail_after(LIMIT):
        async with opened(tmp_path / "jobs.db") as driver:
            job = await fill(driver)
            for name, read in readers(driver.store, job.id).items():
                expected = await read()
                steps = await count_checkpoints(read())
                assert 1 <= steps < MOST, name
                for step in range(steps + 1):
                    await way(read(), step)
                    assert await read() == expected, name
            await check_usable(driver)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_cancelled_opening_leaves_nothing_and_may_be_tried_again(
    tmp_path: Path, way: Callable[..., Awaitable[None]]
) -> None:
    host = HostId("host")
    with anyio.fail_after(LIMIT):
        counted = SqliteStore(tmp_path / "counted.db")
        steps = await count_checkpoints(counted.open(host))
        await counted.close()
        assert 1 <= steps < MOST
        for step in range(steps + 1):
            store = SqliteStore(tmp_path / f"{step}.db")
            await way(store.open(host), step)
            if not store._is_open:
                await store.open(host)
            await check_usable(StoreDriver(store))
            await store.close()
        await until_closed(tmp_path)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_cancelled_close_closes(
    tmp_path: Path, way: Callable[..., Awaitable[None]]
) -> None:
    with anyio.fail_after(LIMIT):
        async with opened(tmp_path / "counted.db") as driver:
            steps = await count_checkpoints(driver.store.close())
        assert 1 <= steps < MOST
        for step in range(1, steps + 1):
            store = SqliteStore(tmp_path / f"{step}.db")
            await store.open(HostId("host"))
            await StoreDriver(store).add("one")
            await way(store.close(), step)
            await store.close()
            async with opened(tmp_path / f"{step}.db") as driver:
                assert await driver.total() == 1
                await check_usable(driver)
        await until_closed(tmp_path)


def open_files(folder: Path) -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


async def until_closed(folder: Path) -> None:
    """Return when no file of a folder is open: threads whose call was cancelled end soon."""
    while open_files(folder):  # noqa: ASYNC110 - the kernel tells nobody
        await anyio.sleep(0.01)
