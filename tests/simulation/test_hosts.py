"""Hosts that share a store: who is dead, who gives up, and what becomes of what they ran."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from hodei_core import Backoff, JobState, Reason, RetryPolicy, WorkerPolicy
from hodei_core.ids import WorkerId
from hodei_core.ports import Advance, Change, Outcome
from hodei_core.runtime.membership import LEASE_SECONDS
from hodei_core.testing import simulated, simulated_clock
from tests.simulation.scene import Scene

TWICE = RetryPolicy(max_attempts=2, backoff=Backoff(first=0.1, jitter=0))


@simulated
async def test_the_work_of_a_host_that_dies_is_rescued_within_one_and_a_half_leases() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        job = await first.hodei.submit("run 60", retry=TWICE)
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        first.crash()
        mine = job.id
        took = await scene.until(
            lambda: any(
                attempt.host_id == second.host_id for attempt in scene.disk.jobs[mine].attempts
            ),
            100,
        )
        assert took <= 1.5 * LEASE_SECONDS
        assert scene.disk.jobs[mine].attempts[0].reason is Reason.WORKER_LOST
        result = await second.hodei.handle(mine).wait()
        assert result.ok
        assert scene.runs(job) == 0
        tasks.cancel_scope.cancel()


@simulated
async def test_a_job_that_may_start_once_fails_with_its_host() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        job = await first.hodei.submit("run 60")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        first.crash()
        result = await second.hodei.handle(job.id).wait()
        assert (result.state, result.reason) == (JobState.FAILED, Reason.WORKER_LOST)
        assert result.message == "its host died"
        tasks.cancel_scope.cancel()


@simulated
async def test_an_attempt_that_ran_before_that_was_stored_is_not_started_again() -> None:
    """The catalogue's A4: its host died between the start and RUNNING."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        job = await first.hodei.submit("run 60")
        await scene.until(lambda: scene.runs(job) == 1, 5)
        assert scene.state(job) is JobState.ASSIGNED
        first.crash()
        result = await second.hodei.handle(job.id).wait()
        assert (result.state, result.reason) == (JobState.FAILED, Reason.WORKER_LOST)
        assert len(result.attempts) == 1
        tasks.cancel_scope.cancel()


@simulated
async def test_a_new_host_takes_up_what_a_dead_one_left() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first = await scene.host()
        running = await first.hodei.submit("run 60", retry=TWICE)
        await scene.until(lambda: scene.state(running) is JobState.RUNNING, 5)
        waiting = await first.hodei.submit_many(["run 1"] * 20)
        first.crash()
        second = await scene.host()
        for job in (running, *waiting):
            assert (await second.hodei.handle(job.id).wait()).ok
        tasks.cancel_scope.cancel()


@simulated
async def test_a_host_that_cannot_renew_its_lease_ends_its_work_before_others_take_it() -> None:
    """The catalogue's B3."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        job = await first.hodei.submit("run 60", retry=TWICE)
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        old = first.host_id
        first.faults.kinds, first.faults.on = frozenset({"store busy"}), True
        first.faults.chance.random = lambda: 0.0  # type: ignore[method-assign]
        ended = await scene.until(lambda: scene.runs(job) == 0, 100)
        assert ended <= LEASE_SECONDS
        first.faults.on = False
        await scene.until(lambda: first.host_id != old, 60)
        assert (await second.hodei.handle(job.id).wait()).ok
        assert (await first.hodei.run("run 1")).ok
        tasks.cancel_scope.cancel()


@simulated
async def test_a_host_alone_that_cannot_renew_its_lease_runs_on() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first = await scene.host()
        job = await first.hodei.submit("run 60")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        first.faults.kinds, first.faults.on = frozenset({"store busy"}), True
        first.faults.chance.random = lambda: 0.0  # type: ignore[method-assign]
        await anyio.sleep(30)
        first.faults.on = False
        assert scene.runs(job) == 1
        assert (await job.wait()).ok
        assert len(scene.disk.jobs[job.id].attempts) == 1
        tasks.cancel_scope.cancel()


@simulated
@pytest.mark.parametrize("jump", [-3600, 3600])
async def test_a_wall_clock_that_jumps_ends_nothing_and_makes_nobody_dead(jump: float) -> None:
    """The catalogue's B4."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, _ = await scene.host(), await scene.host()
        job = await first.hodei.submit("run 40", timeout=60)
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        simulated_clock().jump(jump)
        result = await job.wait()
        assert result.ok
        assert len(result.attempts) == 1
        assert result.duration is not None
        assert result.duration.total_seconds() >= 0
        assert len(scene.disk.hosts) == 2
        late = await first.hodei.run("run 40", timeout=10)
        assert late.state is JobState.TIMED_OUT
        tasks.cancel_scope.cancel()


@simulated
async def test_hosts_that_sleep_together_and_wake_take_nobody_for_dead() -> None:
    """The catalogue's B5: the machine is suspended."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        hosts = [await scene.host(), await scene.host()]
        job = await hosts[0].hodei.submit("run 90")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        before = list(scene.disk.hosts)
        for host in hosts:
            host.power.pause()
        await anyio.sleep(60)
        for host in hosts:
            host.power.go_on()
        await anyio.sleep(60)
        assert list(scene.disk.hosts) == before
        assert (await job.wait()).ok
        assert len(scene.disk.jobs[job.id].attempts) == 1
        tasks.cancel_scope.cancel()


@simulated
async def test_a_host_that_was_stopped_past_its_lease_changes_nothing_that_was_rescued() -> None:
    """The catalogue's B2 and B6: the late end of an attempt that somebody else closed."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        old = first.host_id
        job = await first.hodei.submit("run 5", retry=TWICE)
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 4)
        first.power.pause()
        await scene.until(lambda: old not in scene.disk.hosts, 2 * LEASE_SECONDS)
        result = await second.hodei.handle(job.id).wait()
        assert result.ok
        assert [a.reason for a in result.attempts] == [Reason.WORKER_LOST, None]
        first.power.go_on()
        await scene.until(lambda: first.host_id != old, 60)
        assert scene.disk.jobs[job.id].attempts == result.attempts
        assert (await first.hodei.run("run 1")).ok
        tasks.cancel_scope.cancel()


@simulated
async def test_the_end_of_an_attempt_and_its_rescue_yield_one_outcome() -> None:
    """The catalogue's B6: whoever commits first."""
    for late in range(20):
        await _end_and_rescue(10 + late / 4)


async def _end_and_rescue(stopped: float) -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        job = await first.hodei.submit("run 14")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 4)
        first.power.pause()
        await anyio.sleep(stopped)
        first.power.go_on()
        told = await second.hodei.handle(job.id).wait()
        assert scene.state(job) is told.state
        await anyio.sleep(30)
        assert scene.state(job) is told.state
        assert scene.runs(job) == 0
        tasks.cancel_scope.cancel()


@simulated
async def test_hosts_share_what_waits_and_run_nothing_twice() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        hosts = [await scene.host(), await scene.host()]
        jobs = await hosts[0].hodei.submit_many(["run 1"] * 200)
        for job in jobs:
            assert (await hosts[1].hodei.handle(job.id).wait()).ok
        owners = {job.attempts[0].host_id for job in scene.disk.jobs.values()}
        assert owners == {host.host_id for host in hosts}
        assert all(len(job.attempts) == 1 for job in scene.disk.jobs.values())
        tasks.cancel_scope.cancel()


@simulated
async def test_a_job_is_cancelled_from_another_host_within_a_moment() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        job = await first.hodei.submit("hang")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        await anyio.sleep(1)
        other = second if scene.disk.jobs[job.id].attempt.host_id == first.host_id else first
        began = simulated_clock().monotonic()
        result = await other.hodei.handle(job.id).cancel("enough")
        assert simulated_clock().monotonic() - began < 0.3 + 0.3 + 5
        assert (result.state, result.message) == (JobState.CANCELLED, "enough")
        assert scene.runs(job) == 0
        tasks.cancel_scope.cancel()


@simulated
async def test_a_cancel_that_was_stored_before_the_exit_wins_though_it_was_not_heard_yet() -> None:
    """Promise 8."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        with anyio.move_on_after(1):
            await second.hodei.drain()
        job = await first.hodei.submit("run 5")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        await anyio.sleep(4.85)
        result = await second.hodei.handle(job.id).cancel("enough")
        assert (result.state, result.message, result.exit_code) == (
            JobState.CANCELLED,
            "enough",
            0,
        )
        assert (await first.hodei.run("run 1")).ok
        tasks.cancel_scope.cancel()


@simulated
async def test_who_waits_for_the_slot_of_an_end_that_is_stored_in_two_steps_gets_it() -> None:
    """The store refused the first for the sake of a cancel, and with it the next assignment."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, WorkerPolicy(max_workers=1, idle_timeout=None), slots=1)
        first, second = await scene.host(), await scene.host()
        with anyio.move_on_after(1):
            await second.hodei.drain()
        job = await first.hodei.submit("run 5")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        behind = await first.hodei.submit("run 1")
        await anyio.sleep(4.85)
        result = await second.hodei.handle(job.id).cancel()
        assert result.state is JobState.CANCELLED
        assert (await behind.wait()).ok
        started = scene.disk.jobs[behind.id].started_at
        # At once: nobody had to look whether a wake-up was missed.
        assert started == result.finished_at
        tasks.cancel_scope.cancel()


@simulated
async def test_a_job_that_no_live_host_could_run_waits_a_minute_for_one_that_can() -> None:
    """Promise 12 in a shared store."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first = await scene.host()
        job = await first.hodei.submit("run 1", requires={"gpu": "yes"})
        behind = await first.hodei.submit("run 1")
        assert (await behind.wait()).ok
        await anyio.sleep(50)
        assert scene.state(job) is JobState.PENDING
        assert "no label 'gpu'" in str(await job.explain())
        result = await job.wait()
        assert result.reason is Reason.UNSCHEDULABLE
        waited = (result.finished_at - result.submitted_at).total_seconds()
        assert 60 <= waited <= 62
        tasks.cancel_scope.cancel()


@simulated
async def test_a_worker_that_comes_after_the_death_of_its_host_is_found() -> None:
    """Promise 5: the ask was on its way when the host died."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        first.faults.kinds, first.faults.on = frozenset({"reply late"}), True
        first.faults.chance.random = lambda: 0.0  # type: ignore[method-assign]
        scene.world.faults = first.faults
        job = await first.hodei.submit("run 1")
        await scene.until(lambda: bool(scene.disk.workers), 5)
        (late,) = scene.disk.workers
        await anyio.sleep(1)
        first.faults.on = False
        first.crash()
        assert (await second.hodei.handle(job.id).wait()).ok
        await scene.until(lambda: late in scene.world.workers, 60)
        await scene.until(lambda: late not in scene.world.workers, 120)
        await scene.until(lambda: late not in scene.disk.workers, 60)
        assert scene.history.violations == []
        tasks.cancel_scope.cancel()


@simulated
async def test_the_numbers_of_entries_that_a_fenced_host_never_stored_are_given_again() -> None:
    """Promise 7: what was printed on the way to the store is lost with the attempt."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        await second.hodei.drain()
        job = await first.hodei.submit("run 60", retry=TWICE)
        await scene.until(lambda: scene.runs(job) == 1, 5)
        first.power.pause()
        await scene.until(lambda: scene.state(job) is JobState.PENDING, 60)
        first.power.go_on()
        assert (await first.hodei.handle(job.id).wait()).ok
        entries = [entry async for entry in first.hodei.handle(job.id).logs()]
        assert [(entry.seq, entry.attempt, entry.lost) for entry in entries] == [
            (1, 1, 1),
            (2, 2, 0),
            (3, 2, 0),
            (4, 2, 0),
            (5, 2, 0),
        ]
        tasks.cancel_scope.cancel()


@simulated
async def test_a_log_goes_on_from_what_another_host_wrote_meanwhile() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        hosts = [await scene.host(), await scene.host()]
        first, second = hosts
        thrice = RetryPolicy(max_attempts=3, backoff=Backoff(first=3, factor=1, jitter=0))
        await second.hodei.drain()
        job = await first.hodei.submit("fail 1 2", retry=thrice)
        for number, runs, rests in ((1, first, second), (2, second, first), (3, first, second)):
            await rests.hodei.drain()
            await runs.hodei.resume()
            await scene.until(lambda n=number: len(scene.disk.jobs[job.id].attempts) == n, 30)  # type: ignore[misc]
            await scene.until(lambda: scene.state(job) is not JobState.RUNNING, 30)
        assert (await second.hodei.handle(job.id).wait()).ok
        owners = [attempt.host_id for attempt in scene.disk.jobs[job.id].attempts]
        assert owners == [first.host_id, second.host_id, first.host_id]
        entries = [entry async for entry in first.hodei.handle(job.id).logs()]
        assert [(entry.seq, entry.attempt) for entry in entries] == [
            (seq, 1 + (seq - 1) // 4) for seq in range(1, 13)
        ]
        tasks.cancel_scope.cancel()


@simulated
async def test_the_log_of_another_hosts_job_is_followed_to_its_end() -> None:
    """L4."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        await second.hodei.drain()
        job = await first.hodei.submit("run 60")
        told = [
            (entry.seq, simulated_clock().monotonic())
            async for entry in second.hodei.handle(job.id).logs()
        ]
        assert [seq for seq, _ in told] == [1, 2, 3, 4]
        assert told[2][1] < 2
        assert 60 <= simulated_clock().monotonic() < 62
        tasks.cancel_scope.cancel()


@simulated
async def test_a_host_may_take_again_what_it_lost_before_that_loss_is_recorded() -> None:
    """One commit has both: the end, which is refused since others wrote it, and the next start."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, WorkerPolicy(min_workers=1, max_workers=2, idle_timeout=None))
        first, second = await scene.host(), await scene.host()
        old = first.host_id
        await second.hodei.drain()
        job = await first.hodei.submit("run 20", retry=TWICE)
        other = await first.hodei.submit("run 1", delay=100)
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 4)
        asked, answered = anyio.Event(), anyio.Event()
        apply = first.store.apply

        async def slow(changes: Sequence[Change]) -> list[Outcome]:
            if any(isinstance(change, Advance) for change in changes):
                asked.set()
                await answered.wait()
            return await apply(changes)

        first.store.apply = slow  # type: ignore[method-assign]
        tasks.start_soon(other.cancel)
        await asked.wait()
        first.power.pause()
        await scene.until(lambda: scene.state(job) is JobState.PENDING, 2 * LEASE_SECONDS)
        first.power.go_on()
        await scene.until(lambda: first.host_id != old, 60)
        await scene.until(lambda: scene.ready(first), 5)
        answered.set()
        result = await first.hodei.handle(job.id).wait()
        assert result.ok
        assert [(a.host_id, a.reason) for a in result.attempts] == [
            (old, Reason.WORKER_LOST),
            (first.host_id, None),
        ]
        tasks.cancel_scope.cancel()


@simulated
async def test_a_host_that_closes_while_it_gives_up_joins_no_more() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, WorkerPolicy(min_workers=1, max_workers=2, idle_timeout=None))
        first, second = await scene.host(), await scene.host()
        old = first.host_id
        discard = first.provider.discard

        async def slowly(worker_id: WorkerId) -> None:
            await anyio.sleep(3)
            await discard(worker_id)

        first.provider.discard = slowly  # type: ignore[method-assign]
        first.power.pause()
        await scene.until(lambda: old not in scene.disk.hosts, 2 * LEASE_SECONDS)
        first.power.go_on()
        await anyio.sleep(1)
        first.leave.set()
        await first.gone.wait()
        assert list(scene.disk.hosts) == [second.host_id]
        assert list(first.store.mine) == [old]
        tasks.cancel_scope.cancel()


@simulated
async def test_a_host_that_closes_while_it_joins_anew_leaves_nothing_on_the_register() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        old = first.host_id
        first.power.pause()
        await scene.until(lambda: old not in scene.disk.hosts, 2 * LEASE_SECONDS)
        first.faults.kinds, first.faults.on = frozenset({"store unsure"}), True
        first.faults.chance.random = lambda: 0.0  # type: ignore[method-assign]
        first.power.go_on()
        await scene.until(lambda: first.host_id in scene.disk.hosts, 60)
        first.faults.on = False
        first.leave.set()
        await first.gone.wait()
        assert list(scene.disk.hosts) == [second.host_id]
        tasks.cancel_scope.cancel()
