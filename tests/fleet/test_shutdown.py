"""Opening and closing: whatever workers are on their way, nothing is left outside."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from hodei_core import (
    Hodei,
    JobState,
    ProvisionError,
    Reason,
    WaitingFor,
    WorkerDraining,
    WorkerEvent,
    WorkerState,
    WorkerTerminated,
)
from hodei_core.backends.memory import MemoryStore
from hodei_core.ports import ProviderHost
from hodei_core.testing import (
    Act,
    FakeClock,
    Making,
    ScriptedProvider,
    run_simulated,
    simulated,
)
from tests.fleet.helpers import LIMIT, Nonsense, assert_nothing_left, policy, states


class MyError(Exception):
    """What a body raises."""


MAKINGS = {
    "slow": Making(delay=30),
    "hangs": Making(hangs=True),
    "reply lost, hangs": Making(reply_lost=True, hangs=True),
    "late": Making(late=18),
    "later than anybody waits": Making(late=45),
    "refuses to end": Making(end_failures=50),
    "ending hangs": Making(end_hangs=True),
    "reply lost, refuses to end": Making(reply_lost=True, end_failures=50),
    "discard hangs": Making(reply_lost=True, end_hangs=True),
    "junk": Making(junk=True, end_failures=50),
    "falls silent": Making(silent_after=0.5),
}
WAYS = ("normal", "error", "cancelled", "aclose", "drained", "nothing")


async def leave(hodei: Hodei, way: str) -> None:
    """Submit jobs, and leave the block of a `Hodei` in one of the ways there are."""
    async with hodei:
        if way != "nothing":
            await hodei.submit_many(["x", "y", "z"])
        await anyio.sleep(1)
        if way == "error":
            raise MyError
        if way == "aclose":
            await hodei.aclose()
        if way == "drained":
            with anyio.move_on_after(1):
                await hodei.drain()
        if way == "cancelled":
            await anyio.sleep_forever()


@pytest.mark.parametrize("making", MAKINGS)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_however_it_closes_and_whatever_is_being_made(
    way: str, making: str
) -> None:
    """C9, L3, L7: no worker survives the shutdown, which is bounded."""

    async def main() -> None:
        provider = ScriptedProvider(
            {"y": Act(ends=False), "z": Act(takes=5, ignores_end=True)},
            makings=MAKINGS[making],
            slots=2,
            policy=policy(startup_timeout=60, lease=10),
        )
        hodei = Hodei(providers=[provider], shutdown_timeout=20)
        with anyio.move_on_after(5 if way == "cancelled" else 1000):
            try:
                await leave(hodei, way)
            except MyError:
                assert way == "error"
        begun = {"cancelled": 5, "drained": 2}.get(way, 1)
        patience = 20 if way in ("normal", "drained", "nothing", "aclose") else 0
        took = anyio.current_time() - begun
        assert took <= max(patience + 10 + 5 + 10 + 5, 45)
        assert_nothing_left(provider)
        assert provider.closed

    run_simulated(main, limit=2000)


async def test_closing_does_not_wait_for_workers_on_their_way() -> None:
    """C9, on both loops: what can be cancelled is cancelled."""
    provider = ScriptedProvider(
        makings=Making(delay=1000), policy=policy(startup_timeout=3000, lease=10)
    )
    with anyio.fail_after(LIMIT):
        with pytest.raises(MyError):
            async with Hodei(providers=[provider], clock=FakeClock()) as hodei:
                await hodei.submit_many(["x"] * 3)
                await anyio.wait_all_tasks_blocked()
                assert provider.asked == 3
                raise MyError
    assert_nothing_left(provider)
    assert [worker.state for worker in provider.workers.values()] == ["never made"] * 3


async def test_a_program_that_is_cancelled_leaves_nothing_on_either_loop() -> None:
    provider = ScriptedProvider(Act(ends=False), slots=2, policy=policy(max_workers=2))
    with anyio.fail_after(LIMIT):
        with anyio.CancelScope() as scope:
            async with Hodei(providers=[provider]) as hodei:
                await hodei.submit_many(["x"] * 6)
                await anyio.wait_all_tasks_blocked()
                assert len(provider.executing) == 4
                scope.cancel()
                await anyio.sleep_forever()
    assert_nothing_left(provider)
    assert [worker.state for worker in provider.workers.values()] == ["ended"] * 2


@simulated
async def test_a_provider_that_does_not_close_holds_nobody_up_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """L7: what it made is left, and said so."""

    class Hangs(ScriptedProvider):
        async def close(self) -> None:
            await anyio.sleep_forever()

    other = ScriptedProvider(name="other", policy=policy(min_workers=1))
    async with Hodei(providers=[other, Hangs(policy=policy())]) as hodei:
        assert (await hodei.run("x", provider="scripted")).ok
        left_at = anyio.current_time()
    assert 60 <= anyio.current_time() - left_at <= 65
    assert "did not close within 60 s" in caplog.text
    assert_nothing_left(other)
    assert other.closed


@simulated
async def test_a_worker_that_comes_after_all_has_closed_is_ended_too() -> None:
    """C7, C9: its making cannot be cancelled, so closing lasts as long, and ends it."""
    provider = ScriptedProvider(makings=Making(late=300), policy=policy(startup_timeout=600))
    with pytest.raises(MyError):
        async with Hodei(providers=[provider]) as hodei:
            await hodei.submit("x")
            await anyio.sleep(1)
            raise MyError
    (worker,) = provider.workers.values()
    assert (worker.state, worker.ready_at, worker.gone_at) == ("ended", 300, 300)


@simulated
async def test_a_drained_host_makes_no_worker_and_one_that_resumes_does() -> None:
    provider = ScriptedProvider(
        Act(takes=5), makings=Making(delay=5), policy=policy(min_workers=1, idle_timeout=20)
    )
    async with Hodei(providers=[provider]) as hodei:
        assert (await hodei.run("x")).ok
        await hodei.drain()
        provider.lose(provider.alive[0])
        jobs = await hodei.submit_many(["x"] * 4)
        await anyio.sleep(3600)
        assert provider.asked == 1
        job = await jobs[0].snapshot()
        assert (job.state, job.waiting_for) == (JobState.PENDING, WaitingFor.DRAIN)
        await hodei.resume()
        for handle in jobs:
            assert (await handle.wait()).ok
        assert provider.asked == 5
    assert_nothing_left(provider)


@simulated
async def test_workers_to_be_kept_are_not_replaced_in_a_drained_host_but_when_it_resumes() -> None:
    provider = ScriptedProvider(policy=policy(min_workers=2))
    async with Hodei(providers=[provider]) as hodei:
        for job in await hodei.submit_many(["x", "x"]):
            await job.wait()
        await hodei.drain()
        provider.lose(provider.alive[0])
        await anyio.sleep(600)
        assert (provider.asked, len(provider.alive)) == (2, 1)
        await hodei.resume()
        await anyio.sleep(1)
        assert (provider.asked, len(provider.alive)) == (3, 2)


@simulated
async def test_a_worker_that_comes_while_its_host_drains_is_used_after_it_resumes() -> None:
    provider = ScriptedProvider(makings=Making(delay=30), policy=policy(idle_timeout=600))
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x")
        await anyio.sleep(1)
        await hodei.drain()
        await anyio.sleep(60)
        assert await states(hodei) == [WorkerState.READY]
        assert (await job.snapshot()).state is JobState.PENDING
        await hodei.resume()
        assert (await job.wait()).ok
    assert provider.asked == 1


@simulated
async def test_a_worker_that_goes_as_its_host_closes_is_told_of_in_order() -> None:
    provider = ScriptedProvider(policy=policy(min_workers=1))
    async with Hodei(providers=[provider]) as hodei:
        stream = hodei.events(WorkerEvent)
        async with stream:
            await hodei.aclose()
            assert [type(event) async for event in stream] == [WorkerDraining, WorkerTerminated]


@pytest.mark.parametrize(
    "making",
    [
        pytest.param(Making(delay=1000), id="slow"),
        pytest.param(Making(end_failures=1000), id="refuses to end"),
        pytest.param(Making(end_hangs=True), id="ending hangs"),
        pytest.param(Making(reply_lost=True, end_failures=1000), id="discard refused"),
        pytest.param(Making(reply_lost=True, end_hangs=True), id="discard hangs"),
        pytest.param(Making(silent_after=0), id="silent"),
    ],
)
def test_a_program_that_ends_without_closing_leaves_nothing(making: Making) -> None:
    """C9, G5: `asyncio.run` cancels every task that is left, ours too."""
    provider = ScriptedProvider(
        makings=making, policy=policy(max_workers=2, lease=10, idle_timeout=0.01)
    )

    async def main() -> None:
        hodei = await Hodei(providers=[provider]).open()
        await hodei.submit("x")
        await anyio.wait_all_tasks_blocked()

    asyncio.run(main())
    assert provider.closed >= 1
    assert_nothing_left(provider)


# Opening


@pytest.mark.parametrize(
    ("making", "match"),
    [
        pytest.param(Making(error=OSError("no network")), "no network", id="fails"),
        pytest.param(Making(error=ProvisionError("no image")), "no image", id="refuses"),
        pytest.param(Making(error=Nonsense("odd")), "odd", id="absurd"),
        pytest.param(Making(hangs=True), "no worker was ready within 20 s", id="hangs"),
        pytest.param(Making(late=25), "no worker was ready within 20 s", id="late"),
        pytest.param(Making(reply_lost=True), "the reply was lost", id="reply lost"),
        pytest.param(Making(junk=True), "'junk', which is no session", id="junk"),
    ],
)
@simulated
async def test_a_worker_to_be_kept_that_cannot_be_made_fails_the_opening(
    making: Making, match: str
) -> None:
    """That error is raised, and nothing is left."""
    good = ScriptedProvider(name="good", policy=policy(min_workers=2))
    bad = ScriptedProvider(
        makings=lambda n: Making() if n == 1 else making,
        policy=policy(min_workers=2, startup_timeout=20),
    )
    entered = False
    with pytest.raises((OSError, ProvisionError), match=match):
        async with Hodei(providers=[good, bad]):
            entered = True
    assert not entered
    assert anyio.current_time() <= 40
    assert_nothing_left(good, bad)
    assert (good.closed, bad.closed) >= (1, 1)


@simulated
async def test_the_opening_can_be_cancelled() -> None:
    provider = ScriptedProvider(
        makings=lambda n: Making(delay=1 if n == 1 else 100), policy=policy(min_workers=3)
    )
    with anyio.move_on_after(10) as scope:
        async with Hodei(providers=[provider]):
            pytest.fail("it opened")
    assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(10, abs=0.1)
    assert provider.most_alive == 1
    assert_nothing_left(provider)


@simulated
async def test_a_provider_that_cannot_be_opened_fails_the_opening_and_the_others_are_closed() -> (
    None
):
    class Shut(ScriptedProvider):
        async def open(self, host: ProviderHost) -> None:
            await super().open(host)
            msg = "no engine"
            raise ProvisionError(msg)

    good, bad, after = (
        ScriptedProvider(name="good", policy=policy(min_workers=1)),
        Shut(name="bad"),
        ScriptedProvider(name="after"),
    )
    with pytest.raises(ProvisionError, match="no engine"):
        async with Hodei(providers=[good, bad, after]):
            pytest.fail("it opened")
    assert (good.closed, after.opened) == (1, 0)
    assert (good.asked, bad.asked) == (0, 0)


@simulated
async def test_what_a_host_left_is_free_for_the_next_one() -> None:
    provider = ScriptedProvider(Act(takes=5), policy=policy(min_workers=1))
    store = MemoryStore()
    for _ in range(3):
        async with Hodei(store, providers=[provider]) as hodei:
            assert len(await hodei.list_workers()) == 1
            assert (await hodei.run("x")).ok
        assert_nothing_left(provider)
    assert provider.asked == 3


@simulated
async def test_jobs_under_way_are_ended_with_their_grace_when_it_closes_at_once() -> None:
    provider = ScriptedProvider(
        {"stubborn": Act(ends=False, ignores_end=True), "x": Act(ends=False)}, policy=policy()
    )
    with pytest.raises(MyError):
        async with Hodei(providers=[provider]) as hodei:
            handles = [await hodei.submit("stubborn", grace=3), await hodei.submit("x")]
            await anyio.sleep(1)
            assert len(provider.executing) == 2
            raise MyError
    results = [await handle.wait() for handle in handles]
    assert [result.reason for result in results] == [Reason.INTERRUPTED] * 2
    assert [result.exit_code for result in results] == [137, 143]
    assert anyio.current_time() == pytest.approx(4, abs=0.1)
    assert_nothing_left(provider)
