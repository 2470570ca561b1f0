"""Workers that go without plan: noticed in time, their jobs rescued, their place taken."""

from __future__ import annotations

import random
from datetime import timedelta

import anyio
import pytest

from hodei_core import (
    Hodei,
    JobRetried,
    JobSpec,
    JobState,
    Reason,
    RetryPolicy,
    WorkerEvent,
    WorkerLost,
    WorkerProvisioning,
    WorkerReady,
    WorkerState,
)
from hodei_core.ports import WorkerLostError
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
    AGAIN,
    AT_ONCE,
    LIMIT,
    Nonsense,
    assert_nothing_left,
    assert_sound,
    only_worker,
    policy,
    settled,
    states,
)

LEASE = 10.0


@simulated
async def test_a_job_whose_worker_is_lost_runs_again_on_another() -> None:
    """D11: noticed at once, retried by policy, the slot gone, the worker replaced."""
    provider = ScriptedProvider(Act(takes=60), makings=Making(delay=2), policy=policy())
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerEvent) as captured:
            job = await hodei.submit("x", retry=AGAIN)
            await anyio.sleep(30)
            provider.lose(provider.alive[0], "the node went down")
            await settled()
            assert provider.executing == []
            assert await states(hodei) == [WorkerState.PROVISIONING]
            assert (await hodei.stats()).slots_used == 0
            result = await job.wait()
        assert result.ok
        assert [attempt.reason for attempt in result.attempts] == [Reason.WORKER_LOST, None]
        assert len({attempt.worker_id for attempt in result.attempts}) == 2
        assert anyio.current_time() == pytest.approx(2 + 28 + 2 + 60, abs=0.1)
        lost, replaced = provider.workers
        assert [(type(event), event.worker_id) for event in captured] == [
            (WorkerProvisioning, lost),
            (WorkerReady, lost),
            (WorkerLost, lost),
            (WorkerProvisioning, replaced),
            (WorkerReady, replaced),
        ]
        assert captured.of(WorkerLost)[0].message == "the node went down"
    assert_sound(provider)
    assert_nothing_left(provider)


@pytest.mark.parametrize("seed", range(10))
def test_whoever_notices_a_loss_first_it_is_told_of_once_and_in_order(seed: int) -> None:
    """The attempt and the line of a lost worker end in any order."""

    async def main() -> list[type[WorkerEvent]]:
        provider = ScriptedProvider(
            Act(takes=5, loses_worker=True), slots=2, policy=policy(max_workers=1)
        )
        async with Hodei(providers=[provider]) as hodei:
            async with capture_events(hodei, WorkerEvent) as captured:
                for job in await hodei.submit_many(["x", "x"]):
                    assert (await job.wait()).reason is Reason.WORKER_LOST
                await settled()
                return [type(event) for event in captured]

    assert run_simulated(main, seed=seed) == [WorkerProvisioning, WorkerReady, WorkerLost]


@simulated
async def test_a_job_that_may_run_once_fails_when_its_worker_is_lost() -> None:
    provider = ScriptedProvider({"bad": Act(takes=5, loses_worker=True)}, policy=policy())
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("bad")
        assert (result.state, result.reason) == (JobState.FAILED, Reason.WORKER_LOST)
        assert result.message == "it fell under its job"
        assert (await hodei.run("x")).ok


@pytest.mark.parametrize("after", [0.5, 3.4, 6.5, 9.9, 13.2])
@simulated
async def test_a_worker_that_falls_silent_is_lost_within_one_and_a_half_leases(
    after: float,
) -> None:
    """D11, L2: detected within 1.5 leases; ended outside; its job runs again."""
    provider = ScriptedProvider(
        Act(takes=60),
        makings=[Making(silent_after=after), Making()],
        policy=policy(lease=LEASE, max_workers=1),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerLost) as captured:
            job = await hodei.submit("x", retry=AGAIN)
            lost = await captured.wait_for(WorkerLost)
            noticed = anyio.current_time() - after
            assert LEASE * 0.6 <= noticed <= LEASE * 1.5
            assert lost.message == "it has not answered for 10 s"
            assert (await job.wait()).ok
        first, second = provider.workers.values()
        assert first.state == "ended"
        assert first.gone_at is not None
        assert first.gone_at <= second.asked_at
    assert_nothing_left(provider)


@simulated
async def test_a_silent_worker_without_a_job_is_lost_too() -> None:
    provider = ScriptedProvider(
        makings=[Making(silent_after=20), Making()], policy=policy(lease=LEASE, min_workers=1)
    )
    async with Hodei(providers=[provider]) as hodei:
        await hodei.run("x")
        await anyio.sleep(20 + 1.5 * LEASE)
        first, second = provider.workers.values()
        assert first.gone_at is not None
        assert provider.alive == [second.id]


@simulated
async def test_a_worker_that_cannot_be_asked_is_never_silent() -> None:
    provider = ScriptedProvider(Act(takes=600), policy=policy(lease=None))
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(1)
        provider.silence(provider.alive[0])
        await anyio.sleep(3600)
        assert (await job.snapshot()).state is JobState.RUNNING
        provider.lose(provider.alive[0])
        assert (await job.wait()).reason is Reason.WORKER_LOST


@pytest.mark.parametrize("error", [OSError("502"), Nonsense("odd"), TimeoutError()], ids=repr)
@simulated
async def test_a_status_that_cannot_be_read_for_a_moment_is_no_loss(error: BaseException) -> None:
    """D8: status unknown is not dead; there is a grace."""
    provider = ScriptedProvider(
        Act(takes=60),
        makings=Making(heartbeat_failures=2, heartbeat_error=error),
        policy=policy(lease=LEASE),
    )
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("x")
        assert result.ok
        assert len(result.attempts) == 1
    assert provider.asked == 1


@simulated
async def test_a_status_that_cannot_be_read_for_a_lease_is_a_loss() -> None:
    """D8: the grace ends."""
    provider = ScriptedProvider(
        Act(takes=60),
        makings=Making(heartbeat_failures=100, heartbeat_error=OSError("502")),
        policy=policy(lease=LEASE),
    )
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("x")
        assert result.reason is Reason.WORKER_LOST
        assert LEASE <= anyio.current_time() <= 1.5 * LEASE
        assert provider.workers[result.attempts[0].worker_id].state == "ended"


@simulated
async def test_a_heartbeat_that_knows_of_the_loss_is_believed_at_once() -> None:
    provider = ScriptedProvider(
        Act(takes=60),
        makings=Making(heartbeat_failures=1, heartbeat_error=WorkerLostError("evicted")),
        policy=policy(lease=LEASE),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerLost) as captured:
            await hodei.run("x")
            assert anyio.current_time() == pytest.approx(LEASE / 3, abs=0.1)
            assert captured[0].message == "evicted"


@pytest.mark.parametrize("stall", [8, 13, 600])
@pytest.mark.parametrize("begins", [0.1, 3.34, 5])
async def test_a_loop_that_stood_still_for_longer_than_the_lease_loses_no_worker(
    stall: float, begins: float
) -> None:
    """G8: the host's own stall is not the worker's silence, wherever in the lease it begins."""
    clock = FakeClock()
    provider = ScriptedProvider(
        Act(ends=False), makings=Making(heartbeat_takes=0.1), policy=policy(lease=LEASE)
    )
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], clock=clock) as hodei:
            job = await hodei.submit("x")
            await anyio.wait_all_tasks_blocked()
            clock.advance(begins)
            await anyio.wait_all_tasks_blocked()
            for _ in range(2):
                for _ in range(3):  # once more before it could answer
                    clock.advance(stall)
                    await anyio.wait_all_tasks_blocked()
                for _ in range(4):
                    clock.advance(0.4)
                    await anyio.wait_all_tasks_blocked()
            assert (await job.snapshot()).state is JobState.RUNNING
            assert provider.asked == 1
            await job.cancel()


@simulated
async def test_a_job_that_loses_three_workers_is_poison_and_others_go_on() -> None:
    """D12: FAILED(POISON) after three, others unaffected, the workers replaced."""
    provider = ScriptedProvider(
        {"bad": Act(takes=5, loses_worker=True), "good": Act(takes=20)},
        policy=policy(max_workers=3),
    )
    retry = RetryPolicy(max_attempts=100)
    async with Hodei(providers=[provider]) as hodei, capture_events(hodei, JobRetried) as retried:
        bad = await hodei.submit("bad", retry=retry)
        good = await hodei.submit_many(["good"] * 10)
        result = await bad.wait()
        assert (result.state, result.reason) == (JobState.FAILED, Reason.POISON)
        assert len(result.attempts) == 3
        for job in good:
            done = await job.wait()
            assert done.ok
            assert len(done.attempts) == 1
        assert [event.job_id for event in retried] == [bad.id] * 2  # none came from a fallen worker
    assert_sound(provider)


@simulated
async def test_planned_ends_of_workers_do_not_count_as_poison() -> None:
    """D12, I20: only what was not planned counts."""
    provider = ScriptedProvider(
        {"bad": Act(takes=5, fails=5)}, policy=policy(max_jobs=1, max_workers=1)
    )
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("bad", retry=RetryPolicy(max_attempts=6))
        assert result.ok
        assert len(result.attempts) == 6
    assert provider.asked == 6


@simulated
async def test_all_jobs_of_a_lost_worker_are_rescued_and_no_other() -> None:
    provider = ScriptedProvider(Act(takes=60), slots=3, policy=policy(max_workers=2))
    async with Hodei(providers=[provider]) as hodei:
        handles = await hodei.submit_many(["x"] * 6)
        await anyio.sleep(10)
        fallen = provider.alive[0]
        provider.lose(fallen)
        results = [await handle.wait() for handle in handles]
        lost = [result for result in results if result.reason is Reason.WORKER_LOST]
        assert {attempt.worker_id for result in lost for attempt in result.attempts} == {fallen}
        assert (len(lost), sum(result.ok for result in results)) == (3, 3)


@simulated
async def test_a_worker_that_is_lost_while_it_drains_is_lost() -> None:
    provider = ScriptedProvider(Act(takes=60), policy=policy(max_jobs=1))
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerEvent) as captured:
            job = await hodei.submit("x")
            await anyio.sleep(10)
            assert (await only_worker(hodei)).state is WorkerState.DRAINING
            provider.lose(provider.alive[0])
            assert (await job.wait()).reason is Reason.WORKER_LOST
            await settled()
        assert [type(event).__name__ for event in captured] == [
            "WorkerProvisioning",
            "WorkerReady",
            "WorkerDraining",
            "WorkerLost",
        ]


@simulated
async def test_a_lost_worker_keeps_its_room_until_it_is_certain_that_it_is_gone() -> None:
    """D4, I7: what may still be there counts, though it is not listed any more."""
    provider = ScriptedProvider(
        Act(takes=1),
        makings=[Making(silent_after=5, end_failures=5), Making()],
        policy=policy(max_workers=1, lease=LEASE, idle_timeout=None),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerLost) as captured:
            await hodei.run("x")
            await captured.wait_for(WorkerLost)
            job = await hodei.submit("x")
            await anyio.sleep(4)
            assert await states(hodei) == []
            assert len(provider.alive) == provider.asked == 1
            assert (await job.wait()).ok
    assert provider.most_alive == 1


def falls_silent() -> ScriptedProvider:
    """A provider whose first worker falls silent and cannot be ended for 12.6 s more."""
    return ScriptedProvider(
        Act(takes=100),
        makings=[Making(silent_after=5, end_failures=6), Making()],
        policy=policy(max_workers=2, lease=LEASE),
    )


@simulated
async def test_a_job_runs_again_only_when_its_lost_worker_is_certain_to_be_gone() -> None:
    """Promise 2, I6: the worker that fell silent may still run what it was given."""
    provider = falls_silent()
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x", retry=AGAIN)
        await anyio.sleep(20)
        assert provider.asked == 1
        (worker_id,) = provider.alive
        assert str(await job.explain()) == (
            f"It is RUNNING: attempt 1 on worker {worker_id}, for 20.0 s; the worker is lost "
            "(it has not answered for 10 s), and not yet certain to be gone."
        )
        result = await job.wait()
        assert result.ok
        first, second = result.attempts
        assert first.reason is Reason.WORKER_LOST
        assert first.finished_at is not None
        assert first.started_at is not None
        assert (first.finished_at - first.started_at).total_seconds() > 25
        assert first.finished_at <= second.assigned_at
    assert provider.overlaps == []


@simulated
async def test_the_cancel_of_a_job_on_a_lost_worker_returns_when_that_is_gone() -> None:
    """Promise 8."""
    provider = falls_silent()
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x", retry=AGAIN)
        await anyio.sleep(20)
        result = await job.cancel()
        assert provider.alive == []
        assert (result.state, len(result.attempts)) == (JobState.CANCELLED, 1)


@simulated
async def test_a_host_that_closes_does_not_wait_for_a_lost_worker_for_ever() -> None:
    provider = ScriptedProvider(
        Act(takes=100),
        makings=Making(silent_after=5, end_failures=1_000),
        policy=policy(max_workers=2, lease=LEASE),
    )
    async with Hodei(providers=[provider], shutdown_timeout=0) as hodei:
        jobs = [await hodei.submit("x", retry=retry) for retry in (AGAIN, RetryPolicy())]
        await anyio.sleep(20)
        began = anyio.current_time()
    assert anyio.current_time() - began < 20
    again, once = [await job.wait() for job in jobs]
    assert (again.state, again.reason) == (JobState.CANCELLED, Reason.INTERRUPTED)
    assert (once.state, once.reason) == (JobState.FAILED, Reason.WORKER_LOST)
    assert_nothing_left(provider)


@pytest.mark.parametrize("seed", range(15))
def test_whatever_is_lost_no_job_runs_twice_at_once_and_all_end(seed: int) -> None:
    """I5, I6, L1, L3: losses and silences at random times."""

    async def main() -> None:
        provider = ScriptedProvider(
            lambda _: Act(takes=random.random() * 9, start_delay=random.choice([0, 1])),
            makings=lambda n: Making(
                delay=random.random() * 3,
                lost_after=random.choice([None, None, random.random() * 30]),
                silent_after=random.choice([None, None, random.random() * 30]),
                end_failures=n % 3,
            ),
            slots=2,
            policy=policy(lease=3, idle_timeout=5),
        )
        async with Hodei(providers=[provider]) as hodei:
            retry = RetryPolicy(max_attempts=50, backoff=AT_ONCE)
            jobs = await hodei.submit_many([JobSpec("x", retry=retry)] * 40)
            for job in jobs:
                result = await job.wait()
                assert result.ok or result.reason is Reason.POISON
                numbers = [attempt.number for attempt in result.attempts]
                assert numbers == list(range(1, len(numbers) + 1))
            await anyio.sleep(120)
            assert await states(hodei) == []
            assert provider.alive == []
            stats = await hodei.stats()
            assert (stats.slots_used, stats.slots_total) == (0, 0)
        assert provider.most_alive <= 4
        assert_nothing_left(provider)

    run_simulated(main, seed=seed)


@simulated
async def test_the_time_a_loss_took_shows_in_the_attempts() -> None:
    provider = ScriptedProvider(
        Act(takes=30), makings=[Making(lost_after=10), Making()], policy=policy()
    )
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("x", retry=AGAIN)
        lost, good = result.attempts
        assert lost.finished_at is not None
        assert lost.started_at is not None
        assert lost.finished_at - lost.started_at == timedelta(seconds=10)
        assert good.finished_at == result.finished_at
