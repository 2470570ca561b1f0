from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from hodei_core import (
    Backoff,
    Hodei,
    JobFinished,
    JobHandle,
    JobId,
    JobState,
    JobStuck,
    Reason,
    RetryPolicy,
    WaitingFor,
)
from hodei_core.backends.memory import MemoryStore
from hodei_core.testing import FakeClock
from tests.runtime.scripted import ScriptedProvider
from tests.runtime.workshop import LIMIT, Workshop

PLAIN = Backoff(first=10, factor=3, max=50, jitter=0)


async def state_of(job: JobHandle, state: JobState, waiting_for: WaitingFor | None = None) -> None:
    """Return when a job is in a state."""
    with anyio.fail_after(LIMIT):
        while True:
            now = await job.snapshot()
            if now.state is state and (waiting_for is None or now.waiting_for is waiting_for):
                return
            await anyio.lowlevel.checkpoint()


async def test_a_timeout_ends_the_attempt_and_its_time_is_that_of_the_run(
    workshop: Workshop,
) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            job = await hodei.submit("hang", timeout=30)
            await workshop.has_started("hang")
            clock.advance(29.9)
            await anyio.wait_all_tasks_blocked()
            assert workshop.ended == []
            clock.advance(0.2)
            result = await job.wait()
    assert (result.state, result.reason) == (JobState.TIMED_OUT, Reason.TIMEOUT)
    assert result.duration is not None
    assert result.duration >= timedelta(seconds=30)


async def test_the_time_in_the_queue_does_not_count_against_the_timeout(
    workshop: Workshop,
) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            first = await hodei.submit("gate a")
            second = await hodei.submit("gate b", timeout=10)
            await workshop.has_started("gate a")
            clock.advance(100)
            workshop.open("a")
            await first.wait()
            await workshop.has_started("gate b")
            clock.advance(9)
            workshop.open("b")
            assert (await second.wait()).ok


async def test_the_time_until_its_worker_starts_it_does_not_count_against_the_timeout() -> None:
    clock = FakeClock()
    provider = ScriptedProvider()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], clock=clock) as hodei:
            job = await hodei.submit("starts late", timeout=10)
            await state_of(job, JobState.ASSIGNED)
            clock.advance(6)
            provider.sessions[0].late_start.set()
            await anyio.wait_all_tasks_blocked()
            clock.advance(9)
            await anyio.wait_all_tasks_blocked()
            assert (await job.snapshot()).state is JobState.RUNNING
            clock.advance(2)
            result = await job.wait()
    assert (result.state, result.reason) == (JobState.TIMED_OUT, Reason.TIMEOUT)
    assert result.duration == timedelta(seconds=11)


async def test_an_exit_known_before_the_deadline_wins_over_it(workshop: Workshop) -> None:
    """The catalogue's C4: the end and the deadline come in the same instant."""
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            job = await hodei.submit("gate a", timeout=10)
            await workshop.has_started("gate a")
            workshop.open("a")
            while workshop.live:
                await anyio.lowlevel.checkpoint()
            clock.advance(10)
            result = await job.wait()
    assert result.state is JobState.SUCCEEDED


async def test_a_pending_timeout_counts_from_when_the_job_is_due(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            blocker = await hodei.submit("gate a")
            job = await hodei.submit("exit 0", pending_timeout=10, delay=20)
            await workshop.has_started("gate a")
            clock.advance(29)
            await state_of(job, JobState.PENDING, WaitingFor.CAPACITY)
            clock.advance(1.5)
            result = await job.wait()
            workshop.open("a")
            await blocker.wait()
    assert (result.state, result.reason) == (JobState.FAILED, Reason.PENDING_TIMEOUT)
    assert workshop.started == ["gate a"]


async def test_a_pending_timeout_is_over_with_the_first_start(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            job = await hodei.submit("gate a", pending_timeout=10)
            await workshop.has_started("gate a")
            clock.advance(100)
            await anyio.wait_all_tasks_blocked()
            workshop.open("a")
            assert (await job.wait()).ok


async def test_a_delayed_job_starts_when_it_is_due_and_not_before(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            late = await hodei.submit("print late", delay=60)
            early = await hodei.submit("print early", delay=30)
            assert (await late.snapshot()).waiting_for is WaitingFor.DELAY
            clock.advance(29)
            await anyio.wait_all_tasks_blocked()
            assert workshop.started == []
            clock.advance(1)
            assert (await early.wait()).ok
            assert workshop.started == ["print early"]
            clock.advance(30)
            assert (await late.wait()).ok


async def test_a_retry_waits_for_its_backoff_and_numbers_its_attempts(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            job = await hodei.submit("fail 2", retry=RetryPolicy(max_attempts=3, backoff=PLAIN))
            await state_of(job, JobState.PENDING, WaitingFor.BACKOFF)
            assert (await job.snapshot()).due_at == clock.now() + timedelta(seconds=10)
            clock.advance(10)
            while len((await job.snapshot()).attempts) < 2:
                await anyio.lowlevel.checkpoint()
            await state_of(job, JobState.PENDING, WaitingFor.BACKOFF)
            assert (await job.snapshot()).due_at == clock.now() + timedelta(seconds=30)
            clock.advance(30)
            result = await job.wait()
    assert result.ok
    ends = [(attempt.number, attempt.reason, attempt.exit_code) for attempt in result.attempts]
    assert ends == [(1, Reason.EXIT_CODE, 1), (2, Reason.EXIT_CODE, 1), (3, None, 0)]


async def test_the_last_attempt_that_fails_is_the_end(workshop: Workshop) -> None:
    policy = RetryPolicy(max_attempts=2, backoff=Backoff(first=0))
    async with Hodei(providers=[workshop.provider()]) as hodei:
        result = await hodei.run("fail 9", retry=policy)
    assert (result.state, result.reason, result.exit_code) == (
        JobState.FAILED,
        Reason.EXIT_CODE,
        1,
    )
    assert len(result.attempts) == 2


async def test_exit_codes_narrow_what_is_retried(workshop: Workshop) -> None:
    policy = RetryPolicy(max_attempts=3, backoff=Backoff(first=0), exit_codes=frozenset({7}))
    async with Hodei(providers=[workshop.provider()]) as hodei:
        assert len((await hodei.run("exit 3", retry=policy)).attempts) == 1
        assert len((await hodei.run("exit 7", retry=policy)).attempts) == 3


async def test_a_timeout_is_retried_by_policy(workshop: Workshop) -> None:
    clock = FakeClock()
    policy = RetryPolicy(max_attempts=2, backoff=Backoff(first=0))
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            job = await hodei.submit("hang", timeout=5, retry=policy)
            await workshop.has_started("hang")
            clock.advance(5)
            while workshop.started.count("hang") < 2:
                clock.advance(0.01)
                await anyio.lowlevel.checkpoint()
            clock.advance(5)
            result = await job.wait()
    assert result.state is JobState.TIMED_OUT
    assert [attempt.reason for attempt in result.attempts] == [Reason.TIMEOUT] * 2


async def test_the_durations_bear_a_wall_clock_that_jumps(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            job = await hodei.submit("gate a", timeout=60)
            await workshop.has_started("gate a")
            clock.advance(5)
            clock.jump(-3600)
            await anyio.wait_all_tasks_blocked()
            workshop.open("a")
            result = await job.wait()
    assert result.ok
    assert result.duration == timedelta(seconds=5)


async def test_job_stuck_is_published_once_per_wait_with_the_reason(workshop: Workshop) -> None:
    clock = FakeClock()
    stuck: list[JobStuck] = []
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock, stuck_after=300) as hodei:
            async with hodei.events(JobStuck, JobFinished) as stream:
                blocker = await hodei.submit("gate a")
                await workshop.has_started("gate a")
                first = await hodei.submit("exit 0")
                clock.advance(100)
                second = await hodei.submit("exit 0")
                clock.advance(199)
                await anyio.wait_all_tasks_blocked()
                clock.advance(1)
                await anyio.wait_all_tasks_blocked()
                clock.advance(400)
                await anyio.wait_all_tasks_blocked()
                clock.advance(400)
                await anyio.wait_all_tasks_blocked()
                workshop.open("a")
                await blocker.wait()
                async for event in stream:
                    if isinstance(event, JobFinished):
                        break
                    assert isinstance(event, JobStuck)
                    stuck.append(event)
    assert [event.job_id for event in stuck] == [first.id, second.id]
    assert stuck[0].waited == timedelta(seconds=300)
    assert "every worker that fits is in use" in stuck[0].explanation


async def test_nobody_counts_who_is_ahead_of_a_stuck_job_unless_asked(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = MemoryStore(), FakeClock()
    counted: list[JobId] = []
    count = store.queue.position

    async def position(job_id: JobId) -> int | None:
        counted.append(job_id)
        return await count(job_id)

    monkeypatch.setattr(store.queue, "position", position)
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider()], clock=clock) as hodei:
            async with hodei.events(JobStuck) as stream:
                await hodei.submit("gate a")
                await workshop.has_started("gate a")
                jobs = await hodei.submit_many(["exit 0"] * 3)
                clock.advance(300)
                for job in jobs:
                    event = await anext(aiter(stream))
                    assert isinstance(event, JobStuck)
                    assert event.job_id == job.id
                    summary, *_ = event.explanation.splitlines()
                    assert summary == "It is PENDING: every worker that fits is in use."
            assert counted == []
            assert [(await job.explain()).position for job in jobs] == [0, 1, 2]
            assert "(2 ahead of it)" in str(await jobs[2].explain())
            workshop.open("a")


async def test_other_work_goes_on_while_many_stuck_jobs_are_told_of(workshop: Workshop) -> None:
    clock = FakeClock()
    told = 0
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock, stuck_after=300) as hodei:
            async with hodei.events(JobStuck, JobFinished) as stream:
                await hodei.submit("gate a")
                await workshop.has_started("gate a")
                await hodei.submit_many("exit 0" for _ in range(200))
                clock.advance(300)
                async for event in stream:
                    if isinstance(event, JobFinished):
                        break
                    told += 1
                    workshop.open("a")
    assert 0 < told < 200


@pytest.mark.parametrize("span", [5, 5.0, timedelta(seconds=5)])
async def test_spans_are_seconds_or_timedeltas(workshop: Workshop, span: float | timedelta) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        job = await hodei.submit("exit 0", timeout=span)
        assert (await job.snapshot()).spec.timeout == timedelta(seconds=5)
