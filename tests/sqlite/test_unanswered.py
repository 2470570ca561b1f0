"""A call that is cancelled after its change was stored: what was stored is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from hodei_core import Hodei, Job, JobHandle, JobState, Needs
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ports import Accept, Change, Outcome, RequestCancel
from tests.runtime.workshop import Workshop, until

SOON = 10.0  # seconds: a host that dispatches looks at all of a shared store every 20 s anyway


class Silent(SqliteStore):
    """Stores a kind of change, and then never answers."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kind: type[Change] | None = None
        self.stored = anyio.Event()

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        outcomes = await super().apply(changes)
        if self.kind is not None and isinstance(changes[0], self.kind):
            self.kind = None
            self.stored.set()
            await anyio.sleep_forever()
        return outcomes


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


async def cancelled_when_stored(call: asyncio.Task[object], store: Silent) -> None:
    """Cancel a call whose change has been stored."""
    await store.stored.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def one_that_runs(hodei: Hodei, workshop: Workshop) -> JobHandle:
    """Return a job that has a slot until the gate is opened."""
    first = await hodei.submit("gate first")
    await workshop.has_started("gate first")
    return first


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_job_whose_submission_was_cancelled_when_it_was_stored_is_run(
    tmp_path: Path, workshop: Workshop, slots: int
) -> None:
    store = Silent(tmp_path / "jobs.db")
    with anyio.fail_after(SOON):
        async with Hodei(store, providers=[workshop.provider(slots=slots)]) as hodei:
            first = await one_that_runs(hodei, workshop)
            store.kind = Accept
            call = asyncio.ensure_future(hodei.submit("exit 0", name="second"))
            await cancelled_when_stored(call, store)
            workshop.open("first")
            assert (await first.wait()).ok
            (second,) = await hodei.list_jobs(name="second")
            assert (await hodei.handle(second.id).wait()).ok
            assert len((await hodei.get_job(second.id)).attempts) == 1
            assert (await hodei.list_workers())[0].slots_used == 0
    assert workshop.started.count("exit 0") == 1


async def test_a_cancel_that_nobody_waits_for_any_more_happens_once_it_is_stored(
    tmp_path: Path, workshop: Workshop
) -> None:
    store = Silent(tmp_path / "jobs.db")
    with anyio.fail_after(SOON):
        async with Hodei(store, providers=[workshop.provider()]) as hodei:
            running = await hodei.submit("hang")
            waiting = await hodei.submit("exit 0")
            await workshop.has_started("hang")
            for job in (waiting, running):
                store.kind, store.stored = RequestCancel, anyio.Event()
                await cancelled_when_stored(asyncio.ensure_future(job.cancel()), store)
                assert (await job.wait()).state is JobState.CANCELLED
    await until(lambda: workshop.ended == ["hang"])
    assert workshop.started == ["hang"]


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_job_whose_run_was_cancelled_when_it_was_stored_is_cancelled(
    tmp_path: Path, workshop: Workshop, slots: int
) -> None:
    store = Silent(tmp_path / "jobs.db")
    with anyio.fail_after(SOON):
        async with Hodei(store, providers=[workshop.provider(slots=slots)]) as hodei:
            first = await one_that_runs(hodei, workshop)
            store.kind = Accept
            call = asyncio.ensure_future(hodei.run("hang", name="second"))
            await cancelled_when_stored(call, store)
            (second,) = await hodei.list_jobs(name="second")
            assert second.state is JobState.CANCELLED
            workshop.open("first")
            assert (await first.wait()).ok
            assert (await hodei.list_workers())[0].slots_used == 0
    assert workshop.live == 0


async def test_a_job_does_not_overtake_those_of_others_that_are_just_being_read(
    tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jobs.db"
    store = SqliteStore(path)
    reading, go_on = anyio.Event(), anyio.Event()
    peek = store.queue.peek

    async def held(needs: Needs, limit: int) -> list[Job]:
        reading.set()
        await go_on.wait()
        return await peek(needs, limit)

    with anyio.fail_after(SOON):
        async with (
            Hodei(store, providers=[workshop.provider()]) as hodei,
            Hodei(path, providers=[]) as client,
        ):
            monkeypatch.setattr(store.queue, "peek", held)
            first = await client.submit("exit 1")
            await reading.wait()
            second = await hodei.submit("exit 2")
            assert (await second.snapshot()).state is JobState.PENDING
            go_on.set()
            await first.wait()
            await second.wait()
    assert workshop.started == ["exit 1", "exit 2"]
