"""What went wrong with the ancestor of this library, line by line of its field report.

Each failure has a test here whose name says it; that of cancelled processes stands with the
real processes, in `tests/integration`.
"""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from hodei_core import (
    Hodei,
    JobFinished,
    JobState,
    JobStuck,
    Reason,
    Resources,
    WaitingFor,
    WorkerPolicy,
    WorkerProvisioning,
    WorkerState,
)
from hodei_core.runtime.dispatcher import Dispatcher
from hodei_core.testing import Act, FakeClock, Making, capture_events, simulated
from hodei_core.testing import ScriptedProvider as ElasticProvider
from tests.runtime.scripted import ScriptedProvider
from tests.runtime.workshop import LIMIT, Workshop


async def test_a_monitor_that_stops_is_loud_and_never_silent(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ending(_self: Dispatcher) -> None:
        return None

    monkeypatch.setattr(Dispatcher, "run", ending)
    with anyio.fail_after(LIMIT), pytest.raises(RuntimeError, match="ended by itself"):
        async with Hodei(providers=[workshop.provider()]):
            await anyio.sleep_forever()


async def test_idle_workers_are_used_and_no_job_stays_pending_beside_them(
    workshop: Workshop,
) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider(max_workers=4)]) as hodei:
            jobs = [await hodei.submit(f"gate {i}") for i in range(4)]
            for i in range(4):
                await workshop.has_started(f"gate {i}")
            workers = {(await job.snapshot()).attempt.worker_id for job in jobs}
            assert len(workers) == 4
            for i in range(4):
                workshop.open(str(i))


@simulated
async def test_no_worker_is_made_while_one_that_is_ready_sits_idle() -> None:
    """READY workers sat idle while new ones were provisioned, timed out and were replaced."""
    provider = ElasticProvider(
        Act(takes=20), makings=Making(delay=5), policy=WorkerPolicy(max_workers=10)
    )
    async with Hodei(providers=[provider], stuck_after=60) as hodei:
        async with capture_events(hodei, WorkerProvisioning, JobStuck) as captured:
            for _ in range(60):
                jobs = await hodei.submit_many(["x", "x"])
                await anyio.sleep(50)
                assert [(await job.snapshot()).state for job in jobs] == [JobState.SUCCEEDED] * 2
            assert [type(event) for event in captured] == [WorkerProvisioning] * 2
    assert provider.asked == 2


@simulated
async def test_workers_that_never_become_ready_are_not_replaced_for_ever() -> None:
    """They are asked for less and less, the job's reason is told, and it runs in the end."""
    provider = ElasticProvider(
        makings=lambda n: Making(hangs=n < 8, delay=5),
        policy=WorkerPolicy(max_workers=4, startup_timeout=60),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, JobStuck) as stuck:
            job = await hodei.submit("x")
            assert (await job.wait()).ok
    assert provider.asked == 8
    assert provider.most_alive == 1
    assert "no worker was ready within 60 s" in stuck[0].explanation


@simulated
async def test_no_worker_is_destroyed_under_a_running_job() -> None:
    """Release and clean-up raced there; here only idle workers with no reserved slot go."""
    provider = ElasticProvider(
        Act(takes=7, start_delay=1),
        slots=2,
        policy=WorkerPolicy(max_workers=3, idle_timeout=0.5, max_lifetime=10),
    )
    async with Hodei(providers=[provider]) as hodei:
        jobs = []
        for number in range(40):
            jobs += await hodei.submit_many(["x"] * (number % 3))
            await anyio.sleep(number % 5)
        for job in jobs:
            result = await job.wait()
            assert result.ok
            assert len(result.attempts) == 1
        await anyio.sleep(20)
    ended = list(provider.workers.values())
    assert len(ended) > 10
    assert [worker.ended_under for worker in ended] == [[]] * len(ended)


@simulated
async def test_limits_of_capacity_hold_and_counts_are_what_is_there() -> None:
    provider = ElasticProvider(
        Act(takes=30),
        makings=Making(delay=3),
        slots=2,
        policy=WorkerPolicy(min_workers=1, max_workers=3),
    )
    async with Hodei(providers=[provider], shutdown_timeout=1) as hodei:
        await hodei.submit_many(["x"] * 50)
        for _ in range(40):
            await anyio.sleep(2.3)
            stats = await hodei.stats()
            assert len(provider.alive) <= 3
            assert len(provider.executing) <= 6
            assert stats.slots_used == len(provider.executing)
            busy = stats.workers[WorkerState.BUSY] + stats.workers[WorkerState.READY]
            assert busy == len(provider.alive)
            assert stats.slots_total == 2 * busy
        assert provider.most_alive == 3
        assert stats.providers["scripted"].max_workers == 3


async def test_a_worker_is_never_given_more_jobs_than_it_has_slots(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider(slots=2, max_workers=2)]) as hodei:
            jobs = [await hodei.submit(f"gate {i}") for i in range(20)]
            for i in range(20):
                await workshop.has_started(f"gate {i}")
                workers = await hodei.list_workers()
                assert all(worker.slots_used <= worker.slots for worker in workers)
                held = [job_id for worker in workers for job_id in worker.jobs]
                assert len(held) == len(set(held))
                workshop.open(str(i))
            for job in jobs:
                await job.wait()
    assert workshop.most == 4


async def test_a_failed_dispatch_does_not_stay_assigned_for_ever() -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[ScriptedProvider()], clock=clock) as hodei:
            job = await hodei.submit("never starts")
            while (await job.snapshot()).state is not JobState.ASSIGNED:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            clock.advance(31)
            await anyio.wait_all_tasks_blocked()
            clock.advance(30)
            while (await job.snapshot()).state is not JobState.PENDING:
                await anyio.lowlevel.checkpoint()
            assert (await job.snapshot()).attempts == ()
            assert (await job.cancel()).state is JobState.CANCELLED


async def test_a_returned_job_does_not_go_silently_round_in_circles() -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[ScriptedProvider()], clock=clock) as hodei:
            async with hodei.events(JobFinished) as stream:
                job = await hodei.submit("not started")
                returns = 0
                while not (await job.snapshot()).state.is_final:
                    now = await job.snapshot()
                    if now.waiting_for is WaitingFor.BACKOFF and len(now.returns) > returns:
                        returns = len(now.returns)
                        assert now.attempts == ()
                        clock.advance(31)
                    await anyio.lowlevel.checkpoint()
                assert isinstance(await stream.__anext__(), JobFinished)
            result = await job.wait()
    assert (result.state, result.reason) == (JobState.FAILED, Reason.START_FAILED)
    assert result.message == "given back 10 times in a row: out of descriptors"
    assert returns == 9


async def test_everybody_can_see_why_a_job_is_pending(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        provider = workshop.provider(slots=2, resources=Resources(cpus=2))
        async with Hodei(providers=[provider], clock=clock) as hodei:
            async with hodei.events(JobStuck) as stream:
                blocker = await hodei.submit("gate a")
                await workshop.has_started("gate a")
                job = await hodei.submit("exit 0", resources=Resources(cpus=2))
                await anyio.wait_all_tasks_blocked()
                words = f"too little of it is free (1 CPU); in use by {blocker.id}"
                assert words in str(await job.explain())
                clock.advance(301)
                stuck = await stream.__anext__()
                assert isinstance(stuck, JobStuck)
                assert stuck.job_id == job.id
                assert words in stuck.explanation
                workshop.open("a")


async def test_idle_is_measured_from_the_last_freed_slot(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            (worker,) = await hodei.list_workers()
            assert worker.idle_since == worker.ready_at == clock.now()
            clock.advance(50)
            job = await hodei.submit("gate a")
            await workshop.has_started("gate a")
            (worker,) = await hodei.list_workers()
            assert (worker.idle_since, worker.state) == (None, WorkerState.BUSY)
            clock.advance(7)
            workshop.open("a")
            await job.wait()
            clock.advance(100)
            (worker,) = await hodei.list_workers()
            assert worker.idle_since == clock.now() - timedelta(seconds=100)


async def test_start_up_time_and_failures_are_measured_and_not_constants() -> None:
    clock = FakeClock()

    async def provisioning(asked: int) -> None:
        clock.advance(asked)

    with anyio.fail_after(LIMIT):
        provider = ScriptedProvider(provisioning=provisioning)
        async with Hodei(providers=[provider], clock=clock) as hodei:
            stats = (await hodei.stats()).providers["scripted"]
            assert (stats.startup, stats.failures) == (timedelta(seconds=1), 0)
            await hodei.run("lose")
            assert (await hodei.run("ok")).ok
            stats = (await hodei.stats()).providers["scripted"]
            assert stats.startup == timedelta(seconds=2)
            assert stats.workers[WorkerState.READY] == 1


@simulated
async def test_failures_of_a_provider_are_counted_and_shown() -> None:
    provider = ElasticProvider(
        makings=[Making(error=OSError("quota"))] * 3 + [Making(delay=4)],
        policy=WorkerPolicy(max_workers=1),
    )
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        seen = []
        while not (await job.snapshot()).state.is_final:
            stats = (await hodei.stats()).providers["scripted"]
            seen.append((stats.failures, stats.breaker, stats.last_error, stats.retry_at is None))
            await anyio.sleep(0.1)
        assert list(dict.fromkeys(seen)) == [
            (0, "closed", None, True),
            (1, "open", "quota", False),
            (2, "open", "quota", False),
            (3, "open", "quota", False),
            (3, "probing", "quota", True),
        ]
        stats = (await hodei.stats()).providers["scripted"]
        assert (stats.failures, stats.breaker) == (0, "closed")
        assert stats.startup == timedelta(seconds=4)


async def test_history_comes_once_and_late_readers_do_not_hang(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("print once")
            live = [entry async for entry in job.logs()]
            late = [entry async for entry in job.logs()]
            assert [entry.seq for entry in live] == [1]
            assert late == live
            slow = job.logs()
            await job.wait()
            assert [entry async for entry in slow] == live


async def test_a_cancelled_job_has_ended_before_its_state_says_so(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with hodei.events(JobFinished) as stream:
                job = await hodei.submit("hang")
                await workshop.has_started("hang")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(job.cancel)
                    await stream.__anext__()
                    assert workshop.live == 0
            assert (await job.snapshot()).state is JobState.CANCELLED
