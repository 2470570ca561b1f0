"""Any text is a text: it comes back as it went in, and is nowhere taken for SQL."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from hodei_core import InvalidJobError, JobNotFoundError, JobState
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.ports import JobFilter, Needs, Submission
from hodei_core.specs import JobSpec
from hodei_core.testing.contracts.driver import StoreDriver
from hodei_core.testing.contracts.samples import at, segment, worker
from tests.sqlite.helpers import opened

T = TypeVar("T")

NASTY = [
    "'; drop table jobs; --",
    '" or "" = "',
    "%",
    "_",
    "?1",
    ":name",
    "\udcff\udc80",
    "\ud800",
    "\u2028\u2029",
    "\U0001f600",
    "null",
    "0x41",
    "x'41'",
    "",
    "\x00",
    "a\x00b",
    "\x7f\x85",
]
texts = st.one_of(st.sampled_from(NASTY), st.text(), st.text(st.characters(categories=["Cs"])))


class Opened:
    """A store that stays open over the examples of a test, with a loop of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self._loop = asyncio.new_event_loop()
        store = SqliteStore(path, synchronous="NORMAL")
        self.run(store.open(HostId("host")))
        self.driver = StoreDriver(store)
        self.run(self.driver.add("canary", name="canary"))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(call)

    def close(self) -> None:
        self.run(self.driver.store.close())
        self._loop.close()


@pytest.fixture(scope="module")
def opened_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    store = Opened(tmp_path_factory.mktemp("texts") / "jobs.db")
    yield store
    store.close()


many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def fields(text: str, other: str) -> Iterator[dict[str, Any]]:
    """Yield each field that takes a text, with this one."""
    yield {"command": text}
    yield {"command": ("argv", text, other)}
    yield {"name": text}
    yield {"env": {"A": text, "B": other}}
    yield {"env": {text: other}}
    yield {"cwd": text}
    yield {"shell": ("sh", text)}
    yield {"image": text}
    yield {"labels": {text: other, "x": text}}
    yield {"requires": {text: other}}
    yield {"provider": text}
    yield {"prefers": text}
    yield {"key": text}
    yield {"stdin": text.encode("utf-8", "surrogatepass")}


@many
@given(text=texts, other=texts)
@example(text="\udcff", other="'")
@example(text="a\u2028b", other="\u2029")
@example(text="\ud800\udc00", other="x")
def test_every_field_comes_back_as_it_went_in(opened_store: Opened, text: str, other: str) -> None:
    accepted = 0
    for values in fields(text, other):
        opened_store.number += 1
        job_id = JobId(f"job-{opened_store.number}")
        try:
            spec = JobSpec(**{"command": "true", **values})
        except InvalidJobError:
            continue
        accepted += 1
        outcome = opened_store.run(
            opened_store.driver.accept(Submission(id=job_id, spec=spec, at=at(0)))
        )
        if outcome.error is None:
            found = opened_store.run(opened_store.driver.get(outcome.jobs[0]))
            assert found is not None
            if outcome.new == (True,):
                assert found.spec == spec
    assert accepted


@many
@given(text=texts, other=texts)
def test_no_filter_takes_a_text_for_sql(opened_store: Opened, text: str, other: str) -> None:
    assume(text != "canary")
    store = opened_store.driver.store
    hosts = store.hosts
    assert hosts is not None

    async def ask() -> None:
        limit = 10
        named = await store.jobs.select(JobFilter(name=text), limit=limit)
        assert all(job.spec.name == text for job in named)
        labelled = await store.jobs.select(JobFilter(labels={text: other}), limit=limit)
        assert all(job.spec.labels[text] == other for job in labelled)
        assert await store.jobs.get(JobId(text)) is None
        with pytest.raises(JobNotFoundError):
            await store.jobs.select(JobFilter(), limit=limit, after=JobId(text))
        assert await store.queue.position(JobId(text)) is None
        needs = Needs(image=text, requires={text: other}, provider=other, prefers=text)
        assert all(Needs.of(job.spec) == needs for job in await store.queue.peek(needs, limit))
        assert (await store.logs.bounds(JobId(text))).last == 0
        assert await store.logs.read(JobId(text), after=0, max_bytes=9) == []
        assert await hosts.cancel_requests(HostId(text)) == []
        assert [job.id for job in await store.jobs.select(JobFilter(name="canary"), limit=2)] == [
            "canary"
        ]
        counts = await store.jobs.counts()
        assert counts[JobState.PENDING] == sum(counts.values())

    opened_store.run(ask())


@many
@given(text=texts)
def test_what_others_say_comes_back_as_it_went_in(opened_store: Opened, text: str) -> None:
    """Messages, reasons, ids of workers and their labels are texts, too."""
    try:
        os.fsencode(text)  # as every text of a job can be
    except UnicodeEncodeError:
        assume(False)
    driver = opened_store.driver
    opened_store.number += 1

    async def use() -> None:
        one = worker(f"{text}-{opened_store.number}", slots=3, labels={text: text}, image=text)
        await driver.add_worker(one.id)
        job = await driver.add(f"said-{opened_store.number}")
        await driver.request_cancel(job, reason=text)
        assigned = await driver.move(job, job.assigned(WorkerId(one.id), text, at(1)))
        returned = await driver.give_back(assigned, due=2)
        assert await driver.get(job) == returned

    opened_store.run(use())


@pytest.mark.parametrize("size", [1_000_000])
async def test_the_largest_jobs_come_back_as_they_went_in(tmp_path: Path, size: int) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        job = await driver.add(
            "large", command="ü" * (size // 2), stdin=bytes(range(256)) * (65_536 // 2)
        )
        assert await driver.get("large") == job
        await driver.add_worker()
        running = await driver.start(job)
        await driver.append(running, segment(1, b"\0" * 65_535 + b"\n"))
        assert await driver.finish(running) == await driver.get("large")
        with pytest.raises(InvalidJobError):
            await driver.add("too large", command="x" * (2**20 + 1))
    connection = sqlite3.connect(tmp_path / "jobs.db")
    assert connection.execute("select count(*) from jobs").fetchone() == (1,)
    connection.close()
