"""Reads whose answer comes late: what happened meanwhile is neither lost nor overlooked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from hodei_core import Hodei, HodeiClosedError, Job, JobHandle, JobState
from hodei_core.backends.sqlite.readers import SqliteJobQueue
from tests.runtime.workshop import Workshop, until

LIMIT = 10.0  # seconds: a host that dispatches looks at all of a shared store every 20 s anyway


class Late:
    """Has one answer come late: that of the first call that it is asked to hold."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.answered = anyio.Event()

    def holding(self, call: Callable[..., Awaitable[Any]], which: Callable[[Any], bool]) -> Any:
        async def called(*arguments: Any) -> Any:
            answer = await call(*arguments)
            if not self.asked.is_set() and which(answer):
                self.asked.set()
                await self.answered.wait()
            return answer

        return called


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


def is_last(jobs: list[Job]) -> bool:
    """Whether a look at a queue brought all that it holds."""
    return 0 < len(jobs) < 256


@asynccontextmanager
async def being_read(
    path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Hodei, list[JobHandle], Late]]:
    """Open a host that looks for the last of 300 jobs, and give these and its look."""
    late = Late()
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[workshop.provider(slots=8)]) as hodei:
            await hodei.drain()
            jobs = await hodei.submit_many(["exit 0"] * 300)
            monkeypatch.setattr(SqliteJobQueue, "peek", late.holding(SqliteJobQueue.peek, is_last))
            await hodei.resume()
            await late.asked.wait()
            yield hodei, jobs, late


async def test_a_job_that_comes_while_the_queue_is_read_is_in_view(
    tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be found by the next look at all, beside slots that are free until then."""
    path = tmp_path / "jobs.db"
    async with being_read(path, workshop, monkeypatch) as (hodei, before, late):
        job = await hodei.submit("exit 0")
        late.answered.set()
        for each in (*before, job):
            await each.wait()


async def test_an_answer_that_a_later_one_has_overtaken_hides_nothing(
    tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late()
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with (
            Hodei(path, providers=[workshop.provider()]) as hodei,
            Hodei(path, providers=[]) as client,
            anyio.create_task_group() as tasks,
        ):
            await hodei.submit("gate slot")
            await workshop.has_started("gate slot")
            before = await hodei.submit("exit 0")
            monkeypatch.setattr(SqliteJobQueue, "peek", late.holding(SqliteJobQueue.peek, is_last))
            dispatcher = hodei._host.dispatcher
            tasks.start_soon(dispatcher.load)
            await late.asked.wait()
            job = await client.submit("exit 0")
            (of,) = dispatcher._assigner._backlog.classes()
            await until(lambda: len(of.window) == 2)
            late.answered.set()
            await anyio.wait_all_tasks_blocked()
            workshop.open("slot")
            for each in (before, job):
                await each.wait()


async def test_a_host_that_drains_while_the_queue_is_read_assigns_nothing(
    tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jobs.db"
    async with being_read(path, workshop, monkeypatch) as (hodei, _, late):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hodei.drain)
            await anyio.wait_all_tasks_blocked()
            begun = len(workshop.started)
            late.answered.set()
        assert len(workshop.started) == begun
        assert (await hodei.stats()).jobs[JobState.PENDING] == 300 - begun


async def test_a_reader_that_is_answered_after_the_close_leaves_nobody_waiting(
    tmp_path: Path, workshop: Workshop
) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[workshop.provider()]) as other:
            job = await other.submit("exit 0", delay=1_000)
            client = await Hodei(path, providers=[]).open()
            first, second = (client.handle(job.id).logs() for _ in range(2))
            with anyio.move_on_after(0.3):
                await anext(second)
            logs = client._host.store.logs
            late, asks = Late(), count(1)
            client._host.logs.refresh({})
            # The third is the one for a buffer to follow.
            held = late.holding(logs.bounds, lambda _: next(asks) == 3)
            logs.bounds = held  # type: ignore[method-assign]

            async def read() -> None:
                with pytest.raises(HodeiClosedError):
                    await anext(first)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await late.asked.wait()
                await client.aclose()
                late.answered.set()
            with pytest.raises(HodeiClosedError):
                await anext(second)
