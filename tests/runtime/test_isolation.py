"""What others do wrong is contained: handlers, providers, sessions, schedulers."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from hodei_core import (
    Backoff,
    Execution,
    FleetView,
    Hodei,
    JobFinished,
    JobState,
    Needs,
    Output,
    ProvisionError,
    Reason,
    RetryPolicy,
    Scheduler,
    SchedulingDecision,
    SmartScheduler,
    WorkerLost,
    WorkerReady,
)
from hodei_core.backends.memory import MemoryProvider
from hodei_core.testing import FakeClock
from tests.runtime.scripted import ScriptedProvider
from tests.runtime.workshop import LIMIT, Workshop, until

AT_ONCE = Backoff(first=0)


async def test_a_handler_that_raises_fails_its_job_with_its_traceback(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        result = await hodei.run("raise it")
        assert (result.state, result.reason, result.exit_code) == (
            JobState.FAILED,
            Reason.EXIT_CODE,
            1,
        )
        assert "RuntimeError: boom it" in result.stderr
        assert (await hodei.run("exit 0")).ok


@pytest.mark.parametrize("value", ["abc", 256, -1, True, 1.5, object()])
async def test_a_handler_that_returns_no_exit_code_fails_its_job(value: object) -> None:
    async def handler(_execution: Execution, _output: Output) -> int:
        return value  # type: ignore[return-value]

    async with Hodei(providers=[MemoryProvider(handler)]) as hodei:
        result = await hodei.run("x")
        assert (result.state, result.exit_code) == (JobState.FAILED, 1)
        assert "no exit code" in result.stderr


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_raises_a_cancellation_of_its_own_fails_its_job() -> None:
    async def handler(_execution: Execution, _output: Output) -> int:
        raise asyncio.CancelledError

    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[MemoryProvider(handler)]) as hodei:
            for _ in range(2):
                result = await hodei.run("x")
                assert (result.state, result.exit_code) == (JobState.FAILED, 1)


async def test_output_after_the_end_of_its_handler_is_refused() -> None:
    kept: list[Output] = []

    async def handler(_execution: Execution, output: Output) -> None:
        kept.append(output)

    async with Hodei(providers=[MemoryProvider(handler)]) as hodei:
        await hodei.run("x")
        with pytest.raises(RuntimeError, match="has ended"):
            await kept[0].write(b"late")


async def test_a_session_that_raises_something_absurd_loses_the_attempt_alone() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[ScriptedProvider()]) as hodei:
            result = await hodei.run("absurd")
            assert (result.state, result.reason) == (JobState.FAILED, Reason.WORKER_LOST)
            assert result.message is not None
            assert "ZeroDivisionError" in result.message
            assert (await hodei.run("ok")).ok


@pytest.mark.parametrize("error", [ZeroDivisionError("absurd"), KeyError("x")])
async def test_a_worker_whose_line_fails_is_lost_and_replaced(error: Exception) -> None:
    provider = ScriptedProvider()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider]) as hodei:
            async with hodei.events(WorkerLost, WorkerReady, JobFinished) as stream:
                job = await hodei.submit("hang", retry=RetryPolicy(max_attempts=2, backoff=AT_ONCE))
                while (await job.snapshot()).state is not JobState.RUNNING:
                    await anyio.lowlevel.checkpoint()
                provider.sessions[0].lose(error)
                kinds = [type(await stream.__anext__()) for _ in range(2)]
                assert kinds == [WorkerLost, WorkerReady]
                while len((await job.snapshot()).attempts) < 2:
                    await anyio.lowlevel.checkpoint()
                await job.cancel()
            assert provider.asked == 2
            assert (await hodei.run("ok")).ok


async def test_a_provider_that_fails_is_asked_again_later_and_jobs_wait() -> None:
    clock = FakeClock()

    async def provisioning(asked: int) -> None:
        if 1 < asked < 5:
            raise ZeroDivisionError(asked)

    provider = ScriptedProvider(provisioning=provisioning)
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], clock=clock) as hodei:
            await hodei.run("lose")
            job = await hodei.submit("ok")
            await until(lambda: provider.asked == 2)
            await anyio.wait_all_tasks_blocked()
            assert (await job.snapshot()).state is JobState.PENDING
            explanation = str(await job.explain())
            assert "it failed to make a worker (2)" in explanation
            stats = await hodei.stats()
            assert stats.providers["scripted"].failures == 1
            assert stats.providers["scripted"].breaker == "open"
            clock.advance(0.85)
            await anyio.wait_all_tasks_blocked()
            assert provider.asked == 2
            for seconds in (0.3, 2.3, 4.5):
                clock.advance(seconds)
                await anyio.wait_all_tasks_blocked()
            assert provider.asked == 5
            assert (await job.wait()).ok
            assert (await hodei.stats()).providers["scripted"].failures == 0


async def test_a_provider_that_never_can_fails_what_needs_it() -> None:
    async def provisioning(asked: int) -> None:
        if asked > 1:
            msg = "image refused"
            raise ProvisionError(msg, permanent=True)

    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[ScriptedProvider(provisioning=provisioning)]) as hodei:
            await hodei.run("lose")
            result = await hodei.run("ok")
    assert (result.state, result.reason) == (JobState.FAILED, Reason.PROVISION_FAILED)
    assert result.message == "scripted: image refused"


async def test_a_job_under_which_three_workers_are_lost_is_poison() -> None:
    policy = RetryPolicy(max_attempts=100, backoff=AT_ONCE)
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[ScriptedProvider()]) as hodei:
            result = await hodei.run("lose", retry=policy)
            assert (result.state, result.reason) == (JobState.FAILED, Reason.POISON)
            assert [attempt.reason for attempt in result.attempts] == [
                Reason.WORKER_LOST,
                Reason.WORKER_LOST,
                Reason.POISON,
            ]
            assert (await hodei.run("ok")).ok


async def test_a_lost_worker_fails_a_job_that_may_start_once() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[ScriptedProvider()]) as hodei:
            result = await hodei.run("lose")
    assert (result.state, result.reason, result.message) == (
        JobState.FAILED,
        Reason.WORKER_LOST,
        "it fell",
    )
    assert result.exit_code is None


async def test_what_cannot_start_fails_with_the_cause_and_is_not_retried() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[ScriptedProvider()]) as hodei:
            policy = RetryPolicy(max_attempts=3, backoff=AT_ONCE)
            result = await hodei.run("cannot start", retry=policy)
            assert (result.state, result.reason) == (JobState.FAILED, Reason.START_FAILED)
            assert result.message == "no such program"
            assert [attempt.started_at for attempt in result.attempts] == [None]
            named = RetryPolicy(max_attempts=3, backoff=AT_ONCE, on={Reason.START_FAILED})
            assert len((await hodei.run("cannot start", retry=named)).attempts) == 3


@pytest.mark.parametrize("answer", [None, "junk", ZeroDivisionError("mine")])
async def test_a_scheduler_that_fails_holds_the_job_and_says_so(
    workshop: Workshop, answer: object
) -> None:
    class Failing(Scheduler):
        def __init__(self) -> None:
            self.fails = True

        def schedule(self, needs: Needs, view: FleetView) -> SchedulingDecision:
            if not self.fails:
                return SmartScheduler().schedule(needs, view)
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

    scheduler = Failing()
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        provider = workshop.provider()
        async with Hodei(providers=[provider], scheduler=scheduler, clock=clock) as hodei:
            job = await hodei.submit("exit 0")
            await anyio.wait_all_tasks_blocked()
            assert (await job.snapshot()).state is JobState.PENDING
            scheduler.fails = False
            clock.advance(1)
            assert (await job.wait()).ok


async def test_a_strategy_of_the_user_s_is_one_function(workshop: Workshop) -> None:
    scheduler = SmartScheduler(
        worker_strategy=lambda _job, candidates: max(candidates, key=lambda c: c.slots_used)
    )
    provider = workshop.provider(slots=2, max_workers=2)
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], scheduler=scheduler) as hodei:
            jobs = [await hodei.submit("gate a"), await hodei.submit("gate b")]
            await workshop.has_started("gate b")
            assert len({(await job.snapshot()).attempt.worker_id for job in jobs}) == 1
            workshop.open("a")
            workshop.open("b")
