"""A file of each released schema, as SQL: what a user of that release has.

`python -m tests.sqlite.released` writes the one of the present schema. Until that is released it is
to be made again whenever its schema changes; from then on, never.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from hodei_core.backends.sqlite import schema
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId
from hodei_core.ports import JobFilter, JoinHost, PutWorker
from hodei_core.testing.contracts.driver import StoreDriver
from hodei_core.testing.contracts.samples import WORKER, at, segment, submission, worker
from hodei_core.workers import Offer
from tests.sqlite.helpers import opened

FOLDER = Path(__file__).with_name("schemas")
HOST = HostId("host")


async def fill(driver: StoreDriver) -> None:
    """Put in one of everything, always the same."""
    offers = (Offer(provider="provider", slots=3, labels={"gpu": "no"}),)
    await driver.apply(JoinHost(HostRecord(id=HOST, beat=4, offers=offers)))
    await driver.apply(PutWorker(attrs.evolve(worker(slots=9, labels={"a": "b"}), host_id=HOST)))
    await driver.add("plain")
    full = await driver.add(
        "full",
        command=("echo", "ü", "\n", "\udcff"),
        name="a name",
        env={"A": "b"},
        cwd="/tmp",
        stdin=b"\0\xff",
        timeout=1.5,
        pending_timeout=2,
        labels={"x": "y", "ü": "ö"},
        requires={"gpu": "yes"},
        priority=7,
        prefers="provider",
        key="a key",
        grace=0.25,
    )
    await driver.retry(await driver.start(full), due=9)
    await driver.add("delayed", delay=60)
    await driver.request_cancel(await driver.add("unwanted"), reason="no more")
    job = await driver.start(await driver.add("running"))
    await driver.append(job, segment(1, b"one\ntwo\n"), segment(3, b"\xff\0"))
    job = await driver.start(await driver.add("done", name="a name"))
    await driver.append(job, segment(1, b"done\n"))
    await driver.finish(job)
    await driver.cancel(await driver.add("cancelled"))
    assigned = await driver.add("assigned")
    await driver.move(assigned, assigned.assigned(WORKER, "provider", at(1), host_id=HOST))
    await driver.accept(submission("again", retried_from="done"))


async def everything(driver: StoreDriver) -> dict[str, object]:
    """Return all that can be read of a store."""
    store = driver.store
    jobs = await store.jobs.select(JobFilter(), limit=None)
    needs = await store.queue.needs()
    assert store.hosts is not None
    return {
        "jobs": jobs,
        "counts": dict(await store.jobs.counts()),
        "queue": {each: await store.queue.peek(each, 100) for each in needs},
        "next due": await store.queue.next_due(),
        "workers": await store.workers.select(),
        "logs": {
            job.id: (
                await store.logs.bounds(job.id),
                await store.logs.read(job.id, after=0, max_bytes=10**6),
            )
            for job in jobs
        },
        "hosts": await store.hosts.select(),
        "requests": await store.hosts.cancel_requests(HOST),
        "by key": (await driver.accept(submission("new", command="true", key="new"))).new,
    }


def dump(path: Path) -> str:
    """Return a file as SQL."""
    connection = sqlite3.connect(path)
    try:
        marks = [
            f"PRAGMA {name} = {connection.execute(f'pragma {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*marks, *connection.iterdump(), ""])
    finally:
        connection.close()


def restore(text: str, path: Path) -> None:
    """Make a file of SQL."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.executescript(text)
    finally:
        connection.close()


async def write() -> Path:
    """Write the file of the present schema."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.db"
        async with opened(path) as driver:
            await fill(driver)
        target = FOLDER / f"{len(schema.STEPS):04}.sql"
        target.write_text(dump(path), encoding="utf-8")
    return target


if __name__ == "__main__":
    print(asyncio.run(write()), file=sys.stderr)
