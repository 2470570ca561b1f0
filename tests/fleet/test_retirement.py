"""How workers go as planned: idle, old, used up; never under a job, and never half."""

from __future__ import annotations

import random
from collections import Counter

import anyio
import pytest

from hodei_core import (
    Hodei,
    JobFinished,
    JobState,
    WorkerDraining,
    WorkerEvent,
    WorkerProvisioning,
    WorkerReady,
    WorkerState,
    WorkerTerminated,
)
from hodei_core.testing import (
    Act,
    FakeClock,
    Making,
    ScriptedProvider,
    capture_events,
    run_simulated,
    simulated,
)
from tests.fleet.helpers import (
    LIMIT,
    Nonsense,
    assert_nothing_left,
    assert_sound,
    only_worker,
    policy,
    settled,
    states,
)

HOUR = 3600.0


# Idle


@simulated
async def test_a_worker_goes_when_it_has_been_idle_since_it_was_ready() -> None:
    provider = ScriptedProvider(makings=Making(delay=30), policy=policy(idle_timeout=60))
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(10.1)
        await job.cancel()
        await anyio.sleep(79)
        assert await states(hodei) == [WorkerState.READY]
        await anyio.sleep(5)
        assert await states(hodei) == []
    (worker,) = provider.workers.values()
    assert worker.gone_at == pytest.approx(90, abs=3)


@pytest.mark.parametrize("more", [{}, {"max_lifetime": 24 * HOUR}, {"lease": 10}], ids=str)
@simulated
async def test_a_worker_goes_when_it_has_been_idle_since_its_last_slot_was_freed(
    more: dict[str, float],
) -> None:
    """Field report: idle was measured from the last heartbeat, so nothing was ever idle."""
    provider = ScriptedProvider(Act(takes=100), slots=2, policy=policy(idle_timeout=60, **more))
    async with Hodei(providers=[provider]) as hodei:
        first = await hodei.submit("x")
        await anyio.sleep(50)
        second = await hodei.submit("x")
        await first.wait()
        await anyio.sleep(40)
        assert (await only_worker(hodei)).idle_since is None
        await second.wait()
        await anyio.sleep(59)
        assert provider.workers.keys() == set(provider.alive)
        await anyio.sleep(5)
        assert provider.alive == []
    (worker,) = provider.workers.values()
    assert worker.gone_at == pytest.approx(150 + 60, abs=3.1)


@simulated
async def test_workers_beyond_those_to_be_kept_go_and_the_others_stay() -> None:
    provider = ScriptedProvider(
        Act(takes=5), policy=policy(min_workers=1, max_workers=6, idle_timeout=20)
    )
    async with Hodei(providers=[provider]) as hodei:
        for job in await hodei.submit_many(["x"] * 6):
            await job.wait()
        assert len(provider.alive) == 6
        await anyio.sleep(30)
        assert len(provider.alive) == 1
        await anyio.sleep(HOUR)
        assert len(provider.alive) == 1
    assert provider.asked == 6


@simulated
async def test_without_an_idle_timeout_workers_stay() -> None:
    provider = ScriptedProvider(policy=policy(idle_timeout=None))
    async with Hodei(providers=[provider]) as hodei:
        await hodei.run("x")
        await anyio.sleep(24 * HOUR - 10)
        assert len(provider.alive) == 1


async def test_a_job_that_comes_as_its_worker_was_idle_for_too_long_gets_another() -> None:
    """C6: idle timeout first, the assignment at the same instant: no attempt is burnt."""
    clock = FakeClock()
    provider = ScriptedProvider(policy=policy(idle_timeout=60))
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], clock=clock) as hodei:
            async with capture_events(hodei, WorkerDraining, WorkerTerminated) as captured:
                await hodei.run("x")
                clock.advance(60)
                await captured.wait_for(WorkerDraining)
                result = await hodei.run("x")
                assert result.ok
                assert [attempt.number for attempt in result.attempts] == [1]
                assert provider.asked == 2
    assert_sound(provider)
    assert_nothing_left(provider)


async def test_a_worker_that_got_a_job_as_it_was_idle_for_too_long_stays() -> None:
    """C6: the assignment first, the idle timeout at the same instant: the worker stays."""
    clock = FakeClock()
    provider = ScriptedProvider(
        {"long": Act(takes=100)}, policy=policy(idle_timeout=60, max_workers=1)
    )
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], clock=clock) as hodei:
            await hodei.run("x")
            clock.advance(59.99)
            job = await hodei.submit("long")
            await anyio.wait_all_tasks_blocked()
            assert (await only_worker(hodei)).jobs == (job.id,)
            clock.advance(0.01)
            await anyio.wait_all_tasks_blocked()
            clock.advance(100)
            assert (await job.wait()).ok
    assert provider.asked == 1
    assert_sound(provider)


def test_at_the_instant_of_the_idle_timeout_either_may_come_first() -> None:
    """C6: the worker gets the job or goes; the job runs once, wherever."""

    async def main(early: float) -> int:
        provider = ScriptedProvider(policy=policy(idle_timeout=60))
        async with Hodei(providers=[provider]) as hodei:
            await hodei.run("x")
            await anyio.sleep(60 - early)
            job = await hodei.submit("x")
            result = await job.wait()
            assert result.ok
            assert [attempt.number for attempt in result.attempts] == [1]
            assert (await job.snapshot()).returns == ()
        assert_sound(provider)
        assert_nothing_left(provider)
        return provider.asked

    made = [run_simulated(main, early, seed=seed) for seed in range(10) for early in (0, 1e-7)]
    assert set(made) == {1, 2}


# Old, or used up


@simulated
async def test_a_worker_that_is_too_old_finishes_its_job_and_is_replaced() -> None:
    provider = ScriptedProvider(
        Act(takes=90),
        makings=Making(delay=1),
        policy=policy(min_workers=1, max_workers=2, max_lifetime=100, idle_timeout=None),
    )
    async with Hodei(providers=[provider]) as hodei:
        assert (await hodei.run("x")).ok
        job = await hodei.submit("x")
        await anyio.sleep(15)
        assert await states(hodei) == [WorkerState.DRAINING, WorkerState.READY]
        assert len(provider.alive) == 2
        await job.wait()
        await settled()
        assert await states(hodei) == [WorkerState.READY]
        old, new = provider.workers.values()
        assert old.gone_at == pytest.approx(1 + 90 + 90, abs=0.1)
        assert new.asked_at == pytest.approx(101, abs=0.1)
        await anyio.sleep(HOUR)
        assert len(provider.alive) == 1
    assert_sound(provider)


@simulated
async def test_a_worker_that_is_too_old_makes_room_before_it_is_replaced() -> None:
    provider = ScriptedProvider(
        Act(takes=90), policy=policy(min_workers=1, max_workers=1, max_lifetime=100)
    )
    async with Hodei(providers=[provider]) as hodei:
        for _ in range(3):
            assert (await hodei.run("x")).ok
    assert provider.asked == 2
    assert_sound(provider)


@simulated
async def test_with_one_job_to_each_worker_every_job_has_a_fresh_one() -> None:
    provider = ScriptedProvider(
        Act(takes=5), slots=2, makings=Making(delay=1), policy=policy(max_jobs=1, max_workers=2)
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, JobFinished) as finished:
            await hodei.submit_many(["x"] * 9)
            await finished.wait_for(JobFinished, count=9)
    assert len({live.worker_id for live in provider.executed}) == len(provider.executed) == 9
    assert provider.most_alive == 2
    assert_sound(provider)


@simulated
async def test_a_worker_takes_no_more_jobs_than_it_may() -> None:
    provider = ScriptedProvider(
        Act(takes=5), slots=2, policy=policy(max_jobs=3, max_workers=2, idle_timeout=None)
    )
    async with Hodei(providers=[provider]) as hodei:
        for job in await hodei.submit_many(["x"] * 12):
            assert (await job.wait()).ok
    given = Counter(live.worker_id for live in provider.executed)
    assert list(given.values()) == [3, 3, 3, 3]
    assert_sound(provider)


@simulated
async def test_a_prewarmed_worker_waits_for_each_job_that_has_one_to_itself() -> None:
    provider = ScriptedProvider(
        makings=Making(delay=10), policy=policy(max_jobs=1, min_workers=1, max_workers=2)
    )
    async with Hodei(providers=[provider]) as hodei:
        for _ in range(3):
            result = await hodei.run("x")
            assert result.finished_at == result.submitted_at
            await anyio.sleep(11)
            assert await states(hodei) == [WorkerState.READY]
    assert provider.asked == 4


# Never under a job


@pytest.mark.parametrize("seed", range(25))
def test_no_worker_is_ended_while_it_runs_a_job_or_is_to_start_one(seed: int) -> None:
    """D10: scale-down never takes a worker that is busy or reserved; also the field report."""
    chance = random.Random(seed)
    policies = policy(
        min_workers=chance.randrange(3),
        max_workers=chance.randrange(3, 6),
        idle_timeout=chance.choice([0.5, 2, 10, None]),
        max_lifetime=chance.choice([None, 3, 20]),
        max_jobs=chance.choice([None, 1, 5]),
        lease=chance.choice([None, 3]),
    )

    async def main() -> None:
        provider = ScriptedProvider(
            lambda _: Act(takes=chance.random() * 4, start_delay=chance.choice([0, 0.5, 2])),
            makings=lambda _: Making(delay=chance.choice([0, 0, 1, 4])),
            slots=chance.randrange(1, 4),
            policy=policies,
        )
        async with Hodei(providers=[provider]) as hodei:
            jobs = []
            for _ in range(30):
                jobs += await hodei.submit_many(["x"] * chance.randrange(1, 5))
                await anyio.sleep(chance.choice([0, 0.25, 0.5, 1, 2, 4]))
            for handle in jobs:
                job = (await handle.wait(), await handle.snapshot())
                assert job[0].state is JobState.SUCCEEDED
                assert (len(job[1].attempts), job[1].returns) == (1, ())
        assert len(provider.executed) == len(jobs)
        assert_sound(provider)
        assert_nothing_left(provider)

    run_simulated(main, seed=seed)


# To the end


@pytest.mark.parametrize("error", [OSError("still there"), Nonsense("really")], ids=repr)
@simulated
async def test_a_worker_that_refuses_to_end_is_asked_until_it_is_gone(
    error: BaseException,
) -> None:
    """D4: retried until absent; row and room are kept until then."""
    provider = ScriptedProvider(
        makings=lambda n: Making(end_failures=5 if n == 1 else 0, end_error=error),
        policy=policy(max_workers=1, idle_timeout=10),
    )
    async with Hodei(providers=[provider]) as hodei:
        await hodei.run("x")
        await anyio.sleep(11)
        first = provider.workers[provider.alive[0]]
        assert await states(hodei) == [WorkerState.TERMINATING]
        job = await hodei.submit("x")
        await anyio.sleep(3)
        assert await states(hodei) == [WorkerState.TERMINATING]
        assert (await job.snapshot()).state is JobState.PENDING
        assert provider.asked == 1
        assert (await job.wait()).ok
        assert first.discards == 6
        assert first.gone_at == pytest.approx(10 + 6.2, abs=0.6)
        assert [w.id for w in await hodei.list_workers()] == provider.alive
    assert_sound(provider)
    assert_nothing_left(provider)


@pytest.mark.parametrize("error", [OSError("still there"), Nonsense("really")], ids=repr)
@simulated
async def test_what_a_failed_making_left_is_asked_to_end_until_it_is_gone(
    error: BaseException,
) -> None:
    """D4: the same for `discard`."""
    provider = ScriptedProvider(
        makings=[Making(reply_lost=True, end_failures=5, end_error=error), Making()],
        policy=policy(max_workers=1),
    )
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(5)
        assert provider.asked == 1
        assert await states(hodei) == [WorkerState.TERMINATING]
        assert (await job.wait()).ok
        first, second = provider.workers.values()
        assert first.discards == 6
        assert first.gone_at is not None
        assert first.gone_at <= second.asked_at
    assert_sound(provider)
    assert_nothing_left(provider)


@simulated
async def test_a_worker_whose_end_is_never_confirmed_keeps_its_room_and_hinders_no_other() -> None:
    """D4: row not dropped before; the host closes all the same."""
    provider = ScriptedProvider(
        makings=lambda n: Making(end_hangs=n == 1),
        policy=policy(max_workers=2, idle_timeout=10),
    )
    async with Hodei(providers=[provider]) as hodei:
        await hodei.run("x")
        await anyio.sleep(HOUR)
        assert await states(hodei) == [WorkerState.TERMINATING]
        for job in await hodei.submit_many(["x"] * 3):
            assert (await job.wait()).ok
        assert provider.asked == 2
    assert_nothing_left(provider)


# What is told


@simulated
async def test_a_worker_is_told_of_in_order_and_its_row_follows() -> None:
    provider = ScriptedProvider(
        Act(takes=10),
        makings=Making(delay=5, end_failures=4),
        slots=2,
        policy=policy(max_jobs=2, max_workers=1),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerEvent) as captured:
            seen = []
            first = await hodei.submit("x")
            await anyio.sleep(1)
            seen += await states(hodei)
            await anyio.sleep(5)
            seen += await states(hodei)
            second = await hodei.submit("x")
            await anyio.sleep(1)
            seen += await states(hodei)
            await first.wait()
            await second.wait()
            await anyio.sleep(1)
            seen += await states(hodei)
            await anyio.sleep(10)
            seen += await states(hodei)
        assert seen == [
            WorkerState.PROVISIONING,
            WorkerState.READY,
            WorkerState.DRAINING,
            WorkerState.TERMINATING,
        ]
        assert [type(event) for event in captured] == [
            WorkerProvisioning,
            WorkerReady,
            WorkerDraining,
            WorkerTerminated,
        ]
        assert {event.provider for event in captured} == {"scripted"}
        assert {event.worker_id for event in captured} == set(provider.workers)


@simulated
async def test_a_worker_in_use_to_the_last_slot_is_busy() -> None:
    provider = ScriptedProvider(Act(takes=10), slots=2, policy=policy(max_workers=1))
    async with Hodei(providers=[provider]) as hodei:
        seen = []
        for _ in range(2):
            await hodei.submit("x")
            await anyio.sleep(1)
            seen.append((await only_worker(hodei)).state)
            stats = await hodei.stats()
            assert stats.providers["scripted"].workers == stats.workers
            assert stats.workers[seen[-1]] == 1
        assert seen == [WorkerState.READY, WorkerState.BUSY]
