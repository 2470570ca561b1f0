"""A store that cannot answer for a while is no bug: it is asked again, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from hodei_core import (
    Backoff,
    Hodei,
    HodeiError,
    JobState,
    JobStuck,
    Reason,
    RetryPolicy,
    StoreBusyError,
    StoreInvalidError,
)
from hodei_core.backends.memory import MemoryStore
from hodei_core.ports import Change, JobQueue, JobRepository, Outcome
from hodei_core.testing import Act, ScriptedProvider, simulated
from tests.runtime.workshop import LIMIT, Workshop


class Busy:
    """Refuses every other call that a task of the library makes of each method, once begun."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self._odd: dict[str, bool] = {}
        self.begun = False
        self.always = False
        self.gone = False

    def check(self, name: str) -> None:
        task = anyio.get_current_task().name or ""
        if not self.begun or not task.startswith("hodei"):
            return
        self._odd[name] = not self._odd.get(name, False)
        if self._odd[name] or self.always:
            self.refused[name] = self.refused.get(name, 0) + 1
            if self.gone:
                raise StoreInvalidError("it was deleted", gone=True)
            msg = f"{name}: somebody else holds it"
            raise StoreBusyError(msg)


class BusyReader:
    """The reading side of a store, whose calls are refused now and then."""

    def __init__(self, reader: object, busy: Busy) -> None:
        self._reader = reader
        self._busy = busy

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._reader, name)

        async def call(*arguments: object, **keywords: object) -> object:
            self._busy.check(name)
            return await method(*arguments, **keywords)

        return call


class BusyStore(MemoryStore):
    """A memory store that is often busy."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = Busy()

    @property
    def queue(self) -> JobQueue:
        return BusyReader(super().queue, self.busy)  # type: ignore[return-value]

    @property
    def jobs(self) -> JobRepository:
        return BusyReader(super().jobs, self.busy)  # type: ignore[return-value]

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        self.busy.check("apply")
        return await super().apply(changes)


def quick(attempts: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, backoff=Backoff(first=0.01, jitter=0))


async def test_jobs_of_every_kind_end_as_they_would(workshop: Workshop) -> None:
    store = BusyStore()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider(slots=2)], stuck_after=0.05) as hodei:
            store.busy.begun = True
            async with hodei.events(JobStuck) as stuck:
                held = [await hodei.submit("hang") for _ in range(2)]
                waiting = await hodei.submit("exit 0")
                unwanted = await hodei.submit("exit 0")
                late = await hodei.submit("exit 0", pending_timeout=0.1)
                assert (await unwanted.cancel()).state is JobState.CANCELLED
                assert (await late.wait()).reason is Reason.PENDING_TIMEOUT
                async for event in stuck:
                    assert isinstance(event, JobStuck)
                    assert "in use" in event.explanation
                    break
            for job in held:
                assert (await job.cancel()).state is JobState.CANCELLED
            assert (await waiting.wait()).ok
            delayed = await hodei.submit("print later", delay=0.01)
            assert (await delayed.wait()).stdout == "later\n"
            failing = await hodei.submit("exit 3", retry=quick(3))
            result = await failing.wait()
            assert (result.exit_code, len(result.attempts)) == (3, 3)
    assert set(store.busy.refused) >= {"apply", "get", "next_due", "overdue", "counts"}


async def test_a_long_queue_is_brought_into_view(workshop: Workshop) -> None:
    store = BusyStore()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider(slots=300)]) as hodei:
            store.busy.begun = True
            for job in await hodei.submit_many(["print x"] * 600):
                assert (await job.wait()).ok
    assert store.busy.refused["peek"]


async def test_leaving_does_not_wait_for_ever_for_a_store_that_refuses_for_ever(
    workshop: Workshop,
) -> None:
    store = BusyStore()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider()], shutdown_timeout=0.1):
            store.busy.begun = store.busy.always = True


class DurableStore(BusyStore):
    """Stands for one that outlives its host."""

    durable = True


async def leave(hodei: Hodei, store: BusyStore, workshop: Workshop, *, gone: bool) -> float:
    """Leave while a job runs and its store refuses; return how many seconds that took."""
    async with hodei:
        await hodei.submit("hang")
        await workshop.has_started("hang")
        store.busy.begun = store.busy.always = True
        store.busy.gone = gone
        began = anyio.current_time()
    return anyio.current_time() - began


@simulated
async def test_what_is_interrupted_and_cannot_be_recorded_holds_nobody_up_for_ever(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    store = DurableStore()
    hodei = Hodei(store, providers=[workshop.provider()], shutdown_timeout=1)
    assert 15 <= await leave(hodei, store, workshop, gone=False) <= 1 + 15 + 2 + 2
    assert "how 1 attempts ended could not be recorded" in caplog.text


@simulated
async def test_a_store_that_is_gone_keeps_nobody_who_leaves(workshop: Workshop) -> None:
    store = DurableStore()
    hodei = Hodei(store, providers=[workshop.provider()], shutdown_timeout=1)
    assert await leave(hodei, store, workshop, gone=True) <= 1 + 2 + 0.5 + 0.5


@simulated
async def test_a_worker_whose_loss_cannot_be_recorded_keeps_nobody_who_leaves_either() -> None:
    store, provider = DurableStore(), ScriptedProvider(Act(ends=False))
    async with Hodei(store, providers=[provider], shutdown_timeout=1) as hodei:
        await hodei.submit("x")
        await anyio.sleep(1)
        store.busy.begun = store.busy.always = store.busy.gone = True
        provider.lose(provider.alive[0])
        await anyio.sleep(1)
        began = anyio.current_time()
    assert anyio.current_time() - began <= 1 + 2 + 0.5 + 0.5
    assert not provider.alive


@simulated
async def test_a_store_that_was_gone_for_a_moment_has_what_ended_when_the_block_was_left(
    workshop: Workshop,
) -> None:
    store = DurableStore()

    async def come_back() -> None:
        await anyio.sleep(1 + 1.5)
        store.busy.begun = False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(come_back)
        hodei = Hodei(store, providers=[workshop.provider()], shutdown_timeout=1)
        await leave(hodei, store, workshop, gone=True)
    counts = await store.jobs.counts()
    assert counts[JobState.FAILED] == 1


async def test_a_store_that_is_busy_for_a_caller_says_so(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(_changes: Sequence[Change]) -> list[Outcome]:
        msg = "somebody else holds it"
        raise StoreBusyError(msg)

    store = MemoryStore()
    async with Hodei(store, providers=[workshop.provider()]) as hodei:
        with monkeypatch.context() as patched:
            patched.setattr(store, "apply", busy)
            with pytest.raises(HodeiError, match="somebody else"):
                await hodei.submit("exit 0")
        assert (await hodei.run("exit 0")).ok
