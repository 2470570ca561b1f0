"""What went wrong with the ancestor of this library, line by line of its field report.

Each failure has a test here whose name says it; those of the fleet come with the fleet, and
that of cancelled processes stands with the real processes, in `tests/integration`.
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
    WorkerState,
)
from hodei_core.runtime.dispatcher import Dispatcher
from hodei_core.testing import FakeClock
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
