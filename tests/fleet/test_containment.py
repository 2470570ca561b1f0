"""D16: whatever the code of a provider raises or answers, the host lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from hodei_core import (
    Hodei,
    JobAssigned,
    JobResult,
    JobState,
    ProvisionError,
    Reason,
    WorkerLost,
    WorkerReady,
    WorkerState,
    WorkerTerminated,
)
from hodei_core.backends.memory import MemoryStore
from hodei_core.ports import Change, Outcome, PutWorker
from hodei_core.testing import (
    Act,
    FakeClock,
    Making,
    ScriptedProvider,
    capture_events,
    simulated,
)
from tests.fleet.helpers import (
    AGAIN,
    LIMIT,
    Nonsense,
    assert_nothing_left,
    assert_sound,
    policy,
    states,
)

ERRORS = [
    pytest.param(ZeroDivisionError("absurd"), id="exception"),
    pytest.param(Nonsense("absurd"), id="base exception"),
    pytest.param(GeneratorExit("absurd"), id="generator exit"),
    pytest.param(ProvisionError("absurd"), id="provision error"),
]


@pytest.mark.parametrize("error", ERRORS)
@simulated
async def test_an_absurd_error_of_a_making_is_a_failure_of_the_provider(
    error: BaseException,
) -> None:
    provider = ScriptedProvider(makings=[Making(error=error), Making()], policy=policy())
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(0.1)
        stats = (await hodei.stats()).providers["scripted"]
        assert (stats.breaker, stats.failures) == ("open", 1)
        assert "absurd" in str(stats.last_error)
        assert (await job.wait()).ok
    assert provider.asked == 2
    assert_nothing_left(provider)


@simulated
async def test_an_answer_that_is_no_line_is_a_failure_and_the_worker_is_ended() -> None:
    provider = ScriptedProvider(makings=[Making(junk=True), Making()], policy=policy(max_workers=1))
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(0.1)
        stats = (await hodei.stats()).providers["scripted"]
        assert stats.last_error == "it answered 'junk', which is no session"
        assert provider.alive == []
        assert (await job.wait()).ok
    assert_nothing_left(provider)


@simulated
async def test_the_line_to_another_worker_is_a_failure_and_leaves_that_one_alone() -> None:
    provider = ScriptedProvider(
        Act(takes=60),
        makings=lambda n: Making(duplicate=n in (2, 3)),
        policy=policy(max_workers=3, idle_timeout=20),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerLost) as lost:
            jobs = [await hodei.submit("x")]
            await anyio.sleep(0.1)
            jobs.append(await hodei.submit("x"))
            await anyio.sleep(0.1)
            stats = (await hodei.stats()).providers["scripted"]
            assert stats.last_error == "it answered with the line to another worker"
            assert stats.breaker == "open"
            for job in jobs:
                result = await job.wait()
                assert result.ok
                assert len(result.attempts) == 1
            assert list(lost) == []
    assert_sound(provider)
    assert_nothing_left(provider)


@pytest.mark.parametrize("error", ERRORS)
@simulated
async def test_an_absurd_error_of_a_line_loses_its_worker(error: BaseException) -> None:
    provider = ScriptedProvider(
        Act(takes=30), makings=[Making(lost_after=10, loss=error), Making()], policy=policy()
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerLost) as lost:
            assert (await hodei.run("x", retry=AGAIN)).ok
        assert "absurd" in lost[0].message
        assert (await hodei.run("x")).ok
    assert_nothing_left(provider)


@pytest.mark.parametrize("error", ERRORS)
@simulated
async def test_an_absurd_error_of_a_heartbeat_is_an_unread_status(error: BaseException) -> None:
    provider = ScriptedProvider(
        Act(takes=30),
        makings=Making(heartbeat_failures=1, heartbeat_error=error),
        policy=policy(lease=10),
    )
    async with Hodei(providers=[provider]) as hodei:
        assert (await hodei.run("x")).ok
    assert provider.asked == 1


@pytest.mark.parametrize("error", ERRORS)
@simulated
async def test_an_absurd_error_of_an_end_is_an_end_to_be_asked_for_again(
    error: BaseException,
) -> None:
    provider = ScriptedProvider(
        makings=lambda n: Making(end_failures=2, end_error=error, reply_lost=n == 1),
        policy=policy(max_workers=1, idle_timeout=5),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerTerminated) as ended:
            assert (await hodei.run("x")).ok
            await ended.wait_for(WorkerTerminated, count=2)
            assert (await hodei.run("x")).ok
    assert [worker.discards for worker in provider.workers.values()][:2] == [3, 3]
    assert_sound(provider)
    assert_nothing_left(provider)


@pytest.mark.parametrize("error", ERRORS)
@simulated
async def test_an_absurd_error_of_a_close_keeps_no_other_provider_open(
    error: BaseException,
) -> None:
    class Failing(ScriptedProvider):
        async def close(self) -> None:
            await super().close()
            raise error

    providers = [
        ScriptedProvider(name="before"),
        Failing(name="failing"),
        ScriptedProvider(name="after"),
    ]
    async with Hodei(providers=providers) as hodei:
        for provider in providers:
            assert (await hodei.run("x", provider=provider.offer.provider)).ok
    assert [provider.closed for provider in providers] == [1, 1, 1]
    assert_nothing_left(*providers)


@pytest.mark.parametrize("where", ["making", "line", "heartbeat", "end", "close"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_a_provider_raises_by_itself_cancels_nobody(where: str) -> None:
    """On asyncio a library may let out a `CancelledError` that nobody asked for."""
    cancelled = asyncio.CancelledError("mine")
    first = {
        "making": Making(error=cancelled),
        "line": Making(lost_after=3, loss=cancelled),
        "heartbeat": Making(heartbeat_failures=1, heartbeat_error=cancelled),
        "end": Making(end_failures=2, end_error=cancelled),
        "close": Making(),
    }[where]

    class Failing(ScriptedProvider):
        async def close(self) -> None:
            await super().close()
            if where == "close":
                raise cancelled

    clock = FakeClock()
    provider = Failing(
        Act(takes=5),
        makings=[first, Making()],
        policy=policy(max_workers=1, lease=10, idle_timeout=5),
    )
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], clock=clock) as hodei:
            for _ in range(2):
                job = await hodei.submit("x", retry=AGAIN)
                while (await job.snapshot()).state is not JobState.SUCCEEDED:
                    clock.advance(1.5)
                    await anyio.wait_all_tasks_blocked()
                for _ in range(4):
                    clock.advance(2)
                    await anyio.wait_all_tasks_blocked()
            assert (await states(hodei)) == []
    assert_nothing_left(provider)
    assert provider.asked == (3 if where in ("making", "line") else 2)


@pytest.mark.parametrize("error", [ZeroDivisionError("absurd"), Nonsense("absurd")], ids=type)
@simulated
async def test_an_absurd_error_of_an_attempt_loses_that_attempt_alone(
    error: BaseException,
) -> None:
    provider = ScriptedProvider({"absurd": Act(takes=1, raises=error)}, policy=policy())
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("absurd")
        assert (result.state, result.reason) == (JobState.FAILED, Reason.WORKER_LOST)
        assert repr(error) in str(result.message)
        assert (await hodei.run("x")).ok
    assert provider.asked == 1


# Races with a store that takes its time


class SlowStore(MemoryStore):
    """A memory store each of whose commits takes a second."""

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        await anyio.sleep(1)
        return await super().apply(changes)


@simulated
async def test_while_the_row_of_a_ready_worker_is_being_stored_it_is_neither_missed_nor_ended() -> (
    None
):
    """D9, D10: it counts as on its way, so that nobody makes another or takes it for idle."""
    provider = ScriptedProvider(
        Act(takes=3),
        makings=lambda n: Making(delay=n),
        policy=policy(idle_timeout=10, max_lifetime=1000, max_workers=10),
    )
    async with Hodei(SlowStore(), providers=[provider]) as hodei:
        jobs = await hodei.submit_many(["x"] * 4)
        for job in jobs:
            assert (await job.wait()).ok
        assert provider.asked == 4
        await anyio.sleep(60)
        assert provider.alive == []
    assert_sound(provider)


@simulated
async def test_a_job_that_was_being_assigned_as_its_worker_fell_goes_to_another() -> None:
    """C6, D11: it was never started there, so no attempt is burnt."""
    provider = ScriptedProvider(policy=policy(max_workers=1, idle_timeout=None))
    async with Hodei(SlowStore(), providers=[provider]) as hodei:
        assert (await hodei.run("x")).ok
        (worker_id,) = provider.alive
        jobs = await hodei.submit_many(["x", "y"])
        await anyio.sleep(0.5)
        provider.lose(worker_id)
        for job in jobs:
            assert_ran_elsewhere(await job.wait(), worker_id)


@simulated
async def test_a_job_that_was_being_stored_as_its_worker_fell_goes_to_another() -> None:
    """C6, D11: the same, where it was to begin as soon as it was stored."""
    provider = ScriptedProvider(policy=policy(max_workers=1, idle_timeout=None))
    async with Hodei(SlowStore(), providers=[provider]) as hodei:
        assert (await hodei.run("x")).ok
        (worker_id,) = provider.alive

        async def fall() -> None:
            await anyio.sleep(0.5)
            provider.lose(worker_id)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fall)
            assert_ran_elsewhere(await hodei.run("y"), worker_id)


def assert_ran_elsewhere(result: JobResult, worker_id: str) -> None:
    """Check that a job ran once, and on another worker."""
    assert result.ok
    assert [attempt.number for attempt in result.attempts] == [1]
    assert result.attempts[0].worker_id != worker_id


class RowStore(MemoryStore):
    """A memory store that takes long to store the row of a worker that became ready."""

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        for change in changes:
            if isinstance(change, PutWorker) and change.worker.state is WorkerState.READY:
                await anyio.sleep(5)
        return await super().apply(changes)


@simulated
async def test_a_worker_that_falls_before_its_row_is_stored_is_given_nothing() -> None:
    provider = ScriptedProvider(
        makings=[Making(lost_after=1), Making()], policy=policy(max_workers=1)
    )
    async with Hodei(RowStore(), providers=[provider]) as hodei:
        async with capture_events(hodei) as captured:
            result = await hodei.run("x")
        assert result.ok
        assert [attempt.number for attempt in result.attempts] == [1]
        first, second = provider.workers
        told = [
            (type(event), event.worker_id)
            for event in captured
            if isinstance(event, (WorkerReady, WorkerLost, JobAssigned))
        ]
        assert told == [
            (WorkerLost, first),
            (WorkerReady, second),
            (JobAssigned, second),
        ]


@simulated
async def test_a_worker_has_all_the_jobs_that_it_may_have_before_it_drains() -> None:
    """The drain that follows from the last of them overtakes no assignment on its way."""
    provider = ScriptedProvider(
        Act(takes=5), slots=3, policy=policy(max_workers=1, max_jobs=3, idle_timeout=None)
    )
    async with Hodei(SlowStore(), providers=[provider]) as hodei:
        jobs = await hodei.submit_many(["x"] * 6)
        assert all([(await job.wait()).ok for job in jobs])
    assert provider.asked == 2
    assert_nothing_left(provider)
