from __future__ import annotations

import anyio
import pytest

from hodei_core import (
    Event,
    Hodei,
    JobFinished,
    JobNotFoundError,
    JobResult,
    JobState,
    Reason,
    RetryPolicy,
)
from hodei_core.backends.memory import MemoryStore
from hodei_core.testing import FakeClock
from tests.runtime.workshop import LIMIT, Workshop, until


async def test_a_job_that_waits_never_starts_once_cancelled(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            first = await hodei.submit("gate a")
            second = await hodei.submit("print never")
            result = await second.cancel("changed my mind")
            workshop.open("a")
            assert (await first.wait()).ok
    assert (result.state, result.reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert result.message == "changed my mind"
    assert result.started_at is None
    assert result.attempts == ()
    assert workshop.started == ["gate a"]


async def test_a_job_cancelled_at_its_assignment_never_starts(workshop: Workshop) -> None:
    """No await lies between the two: the request comes at the worst moment, over and over."""
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider(slots=4)]) as hodei:
            for checkpoints in range(12):
                job = await hodei.submit("hang")
                started = len(workshop.started)
                for _ in range(checkpoints):
                    await anyio.lowlevel.checkpoint()
                known = len(workshop.started) > started
                result = await job.cancel()
                assert result.state is JobState.CANCELLED
                assert (result.started_at is not None) == (len(workshop.started) > started)
                assert not known or result.started_at is not None
    assert workshop.live == 0


async def test_a_running_job_is_ended_and_then_told_so(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("hang")
            await workshop.has_started("hang")
            result = await job.cancel()
            assert workshop.ended == ["hang"]
            assert (result.state, result.reason) == (JobState.CANCELLED, Reason.CANCELLED)
            assert (await hodei.run("print next")).ok


async def test_cancelling_twice_changes_nothing(workshop: Workshop) -> None:
    events: list[Event] = []
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("hang")
            await workshop.has_started("hang")
            first = await job.cancel("one")
            async with hodei.events() as stream:
                second = await job.cancel("two")
                before = await job.snapshot()
                await hodei.run("exit 0")
                async for event in stream:
                    events.append(event)
                    if isinstance(event, JobFinished):
                        break
    assert first == second
    assert before.version == 4
    assert all(getattr(event, "job_id", None) != job.id for event in events)


async def test_cancelling_a_job_that_had_ended_tells_how_it_ended(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        job = await hodei.submit("exit 3")
        await job.wait()
        result = await job.cancel()
    assert (result.state, result.exit_code) == (JobState.FAILED, 3)


async def test_cancelling_an_unknown_job_says_so(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        with pytest.raises(JobNotFoundError, match="nobody"):
            await hodei.handle("nobody").cancel()


async def test_cancel_racing_the_end_yields_one_outcome(workshop: Workshop) -> None:
    """The catalogue's C1: whichever is stored first holds, and cancel tells the truth."""
    states: set[JobState] = set()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            for round_ in range(60):
                name = f"g{round_}"
                job = await hodei.submit(f"gate {name}")
                await workshop.has_started(f"gate {name}")
                workshop.open(name)
                for _ in range(round_ % 6):
                    await anyio.lowlevel.checkpoint()
                told = await job.cancel()
                stored = await job.snapshot()
                assert told.state is stored.state
                states.add(told.state)
    assert states == {JobState.SUCCEEDED, JobState.CANCELLED}


async def test_a_cancel_during_the_backoff_leaves_no_further_attempt(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            job = await hodei.submit("fail 5", retry=RetryPolicy(max_attempts=9))
            await workshop.has_started("fail 5")
            while (await job.snapshot()).state is not JobState.PENDING:
                await anyio.lowlevel.checkpoint()
            result = await job.cancel()
            clock.advance(1000)
            await hodei.run("exit 0")
    assert (result.state, len(result.attempts)) == (JobState.CANCELLED, 1)
    assert workshop.started.count("fail 5") == 1


async def test_a_cancel_requested_as_its_retry_is_decided_is_not_lost(workshop: Workshop) -> None:
    """The catalogue's C8, at every moment around the end of the first attempt."""
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            for checkpoints in range(10):
                command = f"fail {checkpoints + 5}"
                job = await hodei.submit(command, retry=RetryPolicy(max_attempts=100))
                await workshop.has_started(command)
                for _ in range(checkpoints):
                    await anyio.lowlevel.checkpoint()
                result = await job.cancel()
                assert result.state is JobState.CANCELLED
                attempts = workshop.started.count(command)
                assert len(result.attempts) == attempts == 1


async def test_all_who_wait_are_woken_and_late_ones_wait_no_more(workshop: Workshop) -> None:
    results: list[JobResult] = []
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("gate a")

            async def wait() -> None:
                results.append(await job.wait())

            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                workshop.open("a")
            assert await job == results[0]
    assert len(results) == 100


async def test_a_timed_wait_leaves_the_job_alone(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("gate a")
            with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
                await job.wait(timeout=0.01)
            assert (await job.snapshot()).state is not JobState.CANCELLED
            workshop.open("a")
            assert (await job.wait(timeout=LIMIT)).ok


async def test_cancelling_run_cancels_its_job(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(hodei.run, "hang")
                    await workshop.has_started("hang")
                    scope.cancel()
            assert scope.cancelled_caught
            assert workshop.ended == ["hang"]
            (job,) = await hodei.list_jobs()
            assert job.state is JobState.CANCELLED


async def test_cancelling_a_wait_leaves_the_job_alone(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("gate a")
            with anyio.move_on_after(0):
                await job.wait()
            workshop.open("a")
            assert (await job.wait()).ok


async def test_a_cancel_happens_though_its_caller_stops_waiting(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("hang")
            await workshop.has_started("hang")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(job.cancel)
                await until(lambda: bool(workshop.ended))
                tasks.cancel_scope.cancel()
            assert (await job.wait()).state is JobState.CANCELLED


async def test_many_are_cancelled_by_filter_and_counted(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider(slots=2)]) as hodei:
            done = await hodei.submit("exit 0", labels={"batch": "a"})
            await done.wait()
            running = await hodei.submit("hang", labels={"batch": "a"})
            await workshop.has_started("hang")
            waiting = [
                await hodei.submit("exit 0", labels={"batch": "a"}, delay=60) for _ in range(3)
            ]
            other = await hodei.submit("gate b", labels={"batch": "b"})
            assert await hodei.cancel_jobs(labels={"batch": "a"}, reason="all of a") == 4
            for job in (running, *waiting):
                result = await job.wait()
                assert (result.state, result.message) == (JobState.CANCELLED, "all of a")
            assert (await done.wait()).ok
            workshop.open("b")
            assert (await other.wait()).ok
            assert await hodei.cancel_jobs() == 0


async def test_more_are_cancelled_than_their_store_keeps(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        store = MemoryStore(keep=5)
        async with Hodei(store, providers=[workshop.provider()]) as hodei:
            await hodei.drain()
            await hodei.submit_many(["exit 0"] * 50)
            assert await hodei.cancel_jobs() == 50
            assert len(await hodei.list_jobs()) == 5
