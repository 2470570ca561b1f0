"""How workers come to be: as many as are needed, though providers are late, lie or fail."""

from __future__ import annotations

import itertools
from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from hodei_core import (
    Hodei,
    JobState,
    ProviderRecovered,
    ProviderTripped,
    ProvisionError,
    Reason,
    Resources,
    WaitingFor,
    WorkerEvent,
    WorkerProvisioning,
    WorkerReady,
    WorkerState,
    WorkerTerminated,
)
from hodei_core.testing import (
    Act,
    Making,
    ScriptedProvider,
    capture_events,
    run_simulated,
    simulated,
)
from tests.fleet.helpers import assert_nothing_left, assert_sound, policy, settled, states

HOUR = 3600.0


# As many as are needed


@pytest.mark.parametrize(
    ("jobs", "slots", "most", "early", "made"),
    [
        pytest.param(1, 1, 100, 0, 1, id="one"),
        pytest.param(10, 1, 100, 0, 10, id="a worker each"),
        pytest.param(10, 4, 100, 0, 3, id="slots are filled"),
        pytest.param(12, 4, 100, 5, 3, id="what arrives is counted on"),
        pytest.param(5, 4, 100, 4, 2, id="one more than arrives"),
        pytest.param(1000, 1, 10, 0, 10, id="no more than allowed"),
        pytest.param(1000, 4, 50, 500, 50, id="no more than allowed, with slots"),
        pytest.param(1000, 4, 1000, 0, 250, id="a thousand on four slots"),
        pytest.param(1000, 1, 1000, 0, 1000, id="a thousand on one"),
        pytest.param(3000, 1, 2000, 1000, 2000, id="two thousand, and no more than allowed"),
    ],
)
@simulated
async def test_a_storm_of_jobs_makes_as_many_workers_as_it_needs(
    jobs: int, slots: int, most: int, early: int, made: int
) -> None:
    """D9: created at most max and at most what is needed, counting slots on their way."""
    provider = ScriptedProvider(
        Act(takes=HOUR),
        makings=Making(delay=20),
        slots=slots,
        policy=policy(max_workers=most, idle_timeout=60),
    )
    async with Hodei(providers=[provider], shutdown_timeout=0.1) as hodei:
        await hodei.submit_many(["x"] * early)
        await anyio.sleep(10)
        assert provider.asked == min(-(-early // slots), most)
        await hodei.submit_many(["x"] * (jobs - early))
        await anyio.sleep(5)
        assert provider.asked == made  # at once: none waits for others to come
        await anyio.sleep(95)
        assert provider.asked == made
        assert len(provider.executing) == min(jobs, made * slots)
        assert len(provider.alive) == made
    assert_nothing_left(provider)


@simulated
async def test_a_worker_that_is_free_is_used_before_one_is_made() -> None:
    """Field report: READY workers sat idle while new ones were provisioned."""
    provider = ScriptedProvider(Act(takes=10), makings=Making(delay=5), policy=policy())
    async with Hodei(providers=[provider]) as hodei:
        for _ in range(20):
            assert (await hodei.run("x")).ok
            await anyio.sleep(7)
    assert provider.asked == 1


@simulated
async def test_delayed_and_backing_off_jobs_are_no_demand() -> None:
    provider = ScriptedProvider(
        {"fails": Act(fails=1)}, policy=policy(idle_timeout=5), makings=Making(delay=1)
    )
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x", delay=100)
        await anyio.sleep(90)
        assert provider.asked == 0
        assert (await job.wait()).ok
        assert provider.asked_at == [pytest.approx(100, abs=0.1)]


@simulated
async def test_a_job_that_is_cancelled_before_its_worker_came_runs_nowhere() -> None:
    """C2: it never starts; the worker is pooled, and ended when it has been idle."""
    provider = ScriptedProvider(makings=Making(delay=30), policy=policy(idle_timeout=60))
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(10.1)
        assert (await job.snapshot()).waiting_for is WaitingFor.PROVISIONING
        assert (await job.cancel()).state is JobState.CANCELLED
        await anyio.sleep(30)
        assert await states(hodei) == [WorkerState.READY]
        await anyio.sleep(70)
        assert provider.alive == []
    assert provider.executed == []


@simulated
async def test_workers_to_be_kept_are_there_when_it_opens() -> None:
    provider = ScriptedProvider(
        makings=Making(delay=30), policy=policy(min_workers=3, idle_timeout=60)
    )
    async with Hodei(providers=[provider]) as hodei:
        assert anyio.current_time() == pytest.approx(30)
        assert await states(hodei) == [WorkerState.READY] * 3
        await anyio.sleep(HOUR)
        assert await states(hodei) == [WorkerState.READY] * 3
    assert provider.asked == 3
    assert_nothing_left(provider)


@simulated
async def test_workers_to_be_kept_are_made_anew_when_they_are_lost() -> None:
    provider = ScriptedProvider(makings=Making(delay=3), policy=policy(min_workers=2))
    async with Hodei(providers=[provider]) as hodei:
        for _ in range(5):
            assert (await hodei.run("x")).ok  # else the loss counts as a failure to make it
            await settled()
            used = provider.executed[-1].worker_id
            provider.lose(used)
            await anyio.sleep(10)
            assert len(provider.alive) == 2
            assert await states(hodei) == [WorkerState.READY] * 2
    assert provider.asked == 7
    assert_nothing_left(provider)


@pytest.mark.parametrize("seed", range(5))
def test_never_more_than_allowed_exist_those_being_ended_included(seed: int) -> None:
    """I8, I7: room is not given away before absence is confirmed."""

    async def main() -> None:
        provider = ScriptedProvider(
            Act(takes=3),
            makings=lambda n: Making(delay=n % 5, end_failures=n % 4, reply_lost=n % 7 == 3),
            policy=policy(max_workers=3, idle_timeout=1, max_jobs=2),
        )
        async with Hodei(providers=[provider]) as hodei:
            for _ in range(10):
                await hodei.submit_many(["x"] * 4)
                await anyio.sleep(5)
        assert provider.most_alive == 3
        assert len(provider.executed) == 40
        assert_sound(provider)
        assert_nothing_left(provider)

    run_simulated(main, seed=seed)


@simulated
async def test_no_more_makings_begin_in_a_minute_than_allowed() -> None:
    provider = ScriptedProvider(
        Act(takes=HOUR), makings=Making(delay=1), policy=policy(max_workers=20, starts_per_minute=3)
    )
    async with Hodei(providers=[provider], shutdown_timeout=0.1) as hodei:
        jobs = await hodei.submit_many(["x"] * 11)
        await anyio.sleep(10)
        assert "has begun 3 within a minute" in str(await jobs[-1].explain())
        await anyio.sleep(290)
        asked = provider.asked_at
        assert len(asked) == 11
        assert all(later - earlier >= 60 for earlier, later in zip(asked, asked[3:], strict=False))
        assert asked[-1] == pytest.approx(180, abs=1)


@simulated
async def test_no_more_of_those_to_be_kept_begin_in_a_minute_than_allowed() -> None:
    provider = ScriptedProvider(policy=policy(min_workers=3, starts_per_minute=1))
    async with Hodei(providers=[provider]):
        await anyio.sleep(300)
    assert provider.asked_at == pytest.approx([0, 60, 120], abs=0.1)


@simulated
async def test_the_startup_time_is_measured_and_the_faster_provider_is_chosen() -> None:
    slow = ScriptedProvider(Act(takes=9), name="slow", makings=Making(delay=50), policy=policy())
    fast = ScriptedProvider(Act(takes=9), name="fast", makings=Making(delay=5), policy=policy())
    async with Hodei(providers=[slow, fast]) as hodei:
        first = [await hodei.submit("x", provider=name) for name in ("slow", "fast")]
        for job in first:
            await job.wait()
        stats = (await hodei.stats()).providers
        assert [s.startup for s in stats.values()] == [timedelta(seconds=50), timedelta(seconds=5)]
        await hodei.submit_many(["x"] * 5)
        await anyio.sleep(4)
        assert (slow.asked, fast.asked) == (1, 4)


@simulated
async def test_a_job_that_fits_no_provider_fails_at_once_and_blocks_nobody() -> None:
    """D15: UNSCHEDULABLE at once with the memory store."""
    provider = ScriptedProvider(Act(takes=5), policy=policy(max_workers=1))
    async with Hodei(providers=[provider]) as hodei:
        huge = await hodei.submit("x", resources=Resources(cpus=64), priority=9)
        image = await hodei.submit("x", image="debian", priority=9)
        small = await hodei.submit("x")
        for job in (huge, image):
            result = await job.wait()
            assert (result.state, result.reason) == (JobState.FAILED, Reason.UNSCHEDULABLE)
        assert anyio.current_time() == 0
        assert (await small.wait()).ok
        assert anyio.current_time() == pytest.approx(5)
    assert provider.asked == 1


# Providers that fail


@simulated
async def test_a_lost_reply_leaves_one_worker_for_the_job() -> None:
    """D1: nothing leaks, and exactly one live worker is there for the job."""
    provider = ScriptedProvider(
        Act(takes=10),
        makings=[Making(delay=2, reply_lost=True), Making(delay=2)],
        policy=policy(max_workers=2),
    )
    async with Hodei(providers=[provider]) as hodei:
        assert (await hodei.run("x")).ok
        assert len(provider.alive) == 1
        first, second = provider.workers.values()
        assert (first.state, second.state) == ("ended", "alive")
        assert first.gone_at is not None
        assert first.gone_at < second.asked_at
    assert provider.most_alive == 1
    assert_nothing_left(provider)


@simulated
async def test_a_making_that_hangs_is_given_up_and_another_provider_is_used() -> None:
    """D3: bounded, the breaker counts, others are used."""
    hanging = ScriptedProvider(
        name="hanging", makings=Making(hangs=True), policy=policy(startup_timeout=30)
    )
    other = ScriptedProvider(Act(takes=1), name="other", policy=policy())
    async with Hodei(providers=[hanging, other]) as hodei:
        result = await hodei.run("x")
        assert result.ok
        assert anyio.current_time() == pytest.approx(31, abs=1)
        stats = (await hodei.stats()).providers["hanging"]
        assert (stats.breaker, stats.failures) == ("open", 1)
        assert stats.last_error == "no worker was ready within 30 s"
    assert hanging.asked == 1
    assert_nothing_left(hanging, other)


@simulated
async def test_a_worker_that_never_becomes_ready_is_ended_and_counted() -> None:
    """D7: the provider says that it runs, it never connects: timeout, destroyed, counted."""
    provider = ScriptedProvider(
        makings=[Making(delay=1, reply_lost=True, hangs=True), Making()],
        policy=policy(max_workers=1, startup_timeout=20),
    )
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(10)
        assert len(provider.alive) == 1
        await anyio.sleep(10.5)
        assert provider.alive == []
        stats = (await hodei.stats()).providers["scripted"]
        assert (stats.failures, stats.breaker) == (1, "open")
        assert (await job.wait()).ok
    assert provider.most_alive == 1


@pytest.mark.parametrize("most", [1, 2])
@simulated
async def test_a_worker_that_comes_too_late_is_ended_and_not_counted_twice(most: int) -> None:
    """C7: a late worker is destroyed; its room is taken until then, and no longer."""
    provider = ScriptedProvider(
        Act(takes=60),
        makings=[Making(late=50), Making(delay=1)],
        policy=policy(max_workers=most, startup_timeout=20),
    )
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerReady) as ready:
            job = await hodei.submit("x")
            await anyio.sleep(19)
            assert (await hodei.stats()).providers["scripted"].failures == 0
            assert (await job.wait()).ok
        late, second = provider.workers.values()
        assert late.state == "ended"
        assert late.ready_at == late.gone_at == pytest.approx(50)
        assert second.asked_at == pytest.approx(50 if most == 1 else 21, abs=0.5)
        assert [event.worker_id for event in ready] == [second.id]
        assert await states(hodei) == [WorkerState.READY]
        assert (await hodei.stats()).providers["scripted"].failures == 0
    assert [live.worker_id for live in provider.executed] == [second.id]
    assert provider.most_alive <= most
    assert_nothing_left(provider)


@simulated
async def test_a_flapping_provider_is_left_alone_for_longer_and_longer_while_jobs_wait() -> None:
    """D6: closed, open, one probe at a time; few asks in a minute; jobs wait, and do not fail."""
    provider = ScriptedProvider(
        makings=[Making(delay=0.5, error=OSError("flap"))] * 10 + [Making(delay=0.5)],
        policy=policy(),
    )
    async with Hodei(providers=[provider], stuck_after=None) as hodei:
        async with capture_events(hodei, ProviderTripped, ProviderRecovered) as captured:
            jobs = await hodei.submit_many(["x"] * 3)
            await anyio.sleep(0.9)
            stats = (await hodei.stats()).providers["scripted"]
            assert (stats.breaker, stats.failures) == ("open", 3)
            assert stats.last_error == "flap"
            assert provider.asked == 3
            probing = 0
            while provider.asked < 11:
                await anyio.sleep(0.25)
                assert {(await job.snapshot()).state for job in jobs} == {JobState.PENDING}
                breaker = (await hodei.stats()).providers["scripted"].breaker
                assert breaker != "closed"
                probing += breaker == "probing"
                making = [w for w in provider.workers.values() if w.state == "asked"]
                assert len(making) <= 1
            assert probing
            for job in jobs:
                assert (await job.wait()).ok
            assert (await hodei.stats()).providers["scripted"].breaker == "closed"
        assert [type(event) for event in captured] == [ProviderTripped, ProviderRecovered]
        assert (captured[0].provider, captured[0].message) == ("scripted", "flap")
    asked = provider.asked_at
    for start in asked:
        assert sum(start <= at < start + 60 for at in asked) <= 3 + 6
    pauses = [later - earlier - 0.5 for earlier, later in itertools.pairwise(asked[2:])]
    expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
    assert pauses[:8] == [pytest.approx(pause, rel=0.11) for pause in expected]


@simulated
async def test_while_one_provider_flaps_others_are_used() -> None:
    """D6: other providers are used."""
    flapping = ScriptedProvider(name="flapping", makings=Making(error=OSError()), policy=policy())
    other = ScriptedProvider(Act(takes=1), name="other", policy=policy(max_workers=1))
    async with Hodei(providers=[flapping, other]) as hodei:
        jobs = await hodei.submit_many(["x"] * 50)
        for job in jobs:
            assert (await job.wait()).ok
        assert anyio.current_time() == pytest.approx(50, abs=2)
    assert flapping.asked <= 10
    assert len(other.executed) == 50


@simulated
async def test_after_a_failure_the_next_ask_is_a_single_probe() -> None:
    provider = ScriptedProvider(
        Act(takes=100), makings=lambda n: Making(delay=9, error=OSError() if n < 5 else None)
    )
    async with Hodei(providers=[provider], shutdown_timeout=0.1) as hodei:
        await hodei.submit_many(["x"] * 4)
        await anyio.sleep(15)
        assert provider.asked == 5
        await anyio.sleep(10)
        assert provider.asked == 8
        assert len(provider.executing) == 1


@simulated(limit=2 * HOUR)
async def test_a_permanent_failure_is_never_asked_again_and_its_jobs_fail() -> None:
    provider = ScriptedProvider(
        makings=Making(delay=1, error=ProvisionError("no such image", permanent=True))
    )
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("x")
        assert (result.reason, result.message) == (
            Reason.PROVISION_FAILED,
            "scripted: no such image",
        )
        assert (await hodei.run("x")).reason is Reason.PROVISION_FAILED
        await anyio.sleep(HOUR)
    assert provider.asked == 1


@simulated
async def test_a_permanent_failure_of_one_provider_leaves_the_jobs_to_the_others() -> None:
    never = ScriptedProvider(
        name="never", makings=Making(error=ProvisionError("refused", permanent=True))
    )
    other = ScriptedProvider(name="other")
    async with Hodei(providers=[never, other]) as hodei:
        assert all([(await hodei.run("x")).ok for _ in range(3)])
    assert (never.asked, other.asked) == (1, 1)


@simulated
async def test_probes_of_workers_to_be_kept_go_on_without_a_job() -> None:
    """L6: the breaker closes after the provider heals, and the warm worker is there again."""
    provider = ScriptedProvider(
        makings=lambda n: Making(error=None if n in (1, 6) else OSError("no")),
        policy=policy(min_workers=1),
    )
    async with Hodei(providers=[provider]) as hodei:
        await hodei.run("x")
        provider.lose(provider.alive[0])
        await anyio.sleep(120)
        assert provider.asked == 6
        assert await states(hodei) == [WorkerState.READY]
        stats = (await hodei.stats()).providers["scripted"]
        assert (stats.breaker, stats.failures, stats.retry_at) == ("closed", 0, None)


@simulated
async def test_workers_that_fall_before_their_first_job_count_as_failures() -> None:
    """D6, D7: a provider whose workers die at once is not asked without a pause."""
    provider = ScriptedProvider(
        makings=Making(delay=1, lost_after=0.5), policy=policy(min_workers=1)
    )
    async with Hodei(providers=[provider]) as hodei:
        await anyio.sleep(600)
        stats = (await hodei.stats()).providers["scripted"]
        assert stats.last_error == "a worker was lost before it was used: it fell"
    assert provider.asked <= 15  # 1 s, 2 s, 4 s, ... 5 min apart


# Many


@simulated
async def test_the_making_of_a_worker_that_fails_is_told_to_its_end() -> None:
    provider = ScriptedProvider(makings=[Making(error=OSError("no")), Making()], policy=policy())
    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerEvent) as captured:
            assert (await hodei.run("x")).ok
            first = captured[0].worker_id
            told = [type(event) for event in captured if event.worker_id == first]
    assert told == [WorkerProvisioning, WorkerTerminated]


@simulated
async def test_a_job_waits_for_its_worker_at_every_moment_until_that_is_there() -> None:
    """The looks that bound the cost of a missed wake-up do not show."""
    provider = ScriptedProvider(makings=Making(delay=3), policy=policy())
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await settled()
        for _ in range(290):
            await anyio.sleep(0.01)
            assert (await job.snapshot()).waiting_for is WaitingFor.PROVISIONING
        assert [kind for kind, _, _ in (await job.explain()).history] == [WaitingFor.PROVISIONING]


@simulated
async def test_a_storm_of_asks_holds_the_event_loop_in_no_step_for_long() -> None:
    provider = ScriptedProvider(makings=Making(delay=3), policy=policy(max_workers=200))
    async with Hodei(providers=[provider]) as hodei:
        await hodei.submit_many(["x"] * 200)
        most = before = 0
        while provider.asked < 200:
            await anyio.lowlevel.checkpoint()
            most, before = max(most, provider.asked - before), provider.asked
    assert most <= 64


@simulated
async def test_fifty_providers_work_side_by_side() -> None:
    providers = [
        ScriptedProvider(
            Act(takes=5),
            name=f"p{number}",
            makings=Making(delay=1 + number % 7, error=OSError() if number % 10 == 9 else None),
            policy=policy(max_workers=2, idle_timeout=20),
        )
        for number in range(50)
    ]
    async with Hodei(providers=providers) as hodei:
        jobs = await hodei.submit_many(["x"] * 200)
        for job in jobs:
            assert (await job.wait()).ok
        assert len((await hodei.stats()).providers) == 50
        await anyio.sleep(60)
        assert await states(hodei) == []
    assert sum(len(provider.executed) for provider in providers) == 200
    assert_sound(*providers)
    assert_nothing_left(*providers)


@simulated(limit=timedelta(days=2))
async def test_a_constant_load_makes_and_ends_no_workers_in_a_day() -> None:
    """Design, section 8: creations and terminations after the first minute are 0 in a day."""
    provider = ScriptedProvider(
        Act(takes=97), makings=Making(delay=7), slots=2, policy=policy(idle_timeout=30)
    )

    async def feed(hodei: Hodei) -> None:
        while anyio.current_time() < 24 * HOUR:
            assert (await hodei.run("x")).ok

    async with Hodei(providers=[provider]) as hodei:
        async with capture_events(hodei, WorkerProvisioning) as made:
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(feed, hodei)
            assert len(made) == 3
    assert provider.asked_at == [pytest.approx(0, abs=1)] * 3
    assert min(worker.gone_at or 0 for worker in provider.workers.values()) >= 24 * HOUR
    assert provider.discards == 0
