"""Answers that take long: what was read is not so any more when it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count

import anyio

from hodei_core import (
    Backoff,
    Job,
    JobHandle,
    JobNotFoundError,
    JobSpec,
    JobState,
    RetryPolicy,
    WorkerPolicy,
)
from hodei_core.errors import StoreBusyError
from hodei_core.ids import WorkerId
from hodei_core.ports import CancelRequest, RequestCancel
from hodei_core.runtime.membership import LEASE_SECONDS
from hodei_core.testing import simulated, simulated_clock
from tests.simulation.scene import Scene, SceneHost

KEPT = WorkerPolicy(max_workers=2, idle_timeout=None)
WARM = WorkerPolicy(min_workers=1, max_workers=2, idle_timeout=None)
THRICE = RetryPolicy(max_attempts=3, backoff=Backoff(first=0.1, jitter=0))


class Held:
    """The next answer to one of these questions, held back until it is let go."""

    def __init__(self, host: SceneHost, *names: str) -> None:
        self.asked = anyio.Event()
        self.answered = anyio.Event()
        self._host = host
        self._names = names
        host.store.late = self._late  # type: ignore[method-assign]

    async def _late(self, name: str) -> None:
        if name in self._names and not self.asked.is_set():
            self.asked.set()
            await self.answered.wait()
            await self._host.power.check()


def slowly(host: SceneHost, seconds: float) -> None:
    """Have the provider of a host take so long to end a worker."""
    discard: Callable[[WorkerId], Awaitable[None]] = host.provider.discard

    async def slow(worker_id: WorkerId) -> None:
        await anyio.sleep(seconds)
        await discard(worker_id)

    host.provider.discard = slow  # type: ignore[method-assign]


async def rest(host: SceneHost) -> None:
    """Have a host assign nothing."""
    with anyio.move_on_after(1):
        await host.hodei.drain()


async def hears_that_it_is_gone(job: JobHandle, told: anyio.Event) -> None:
    """Wait for a job that is pruned before that is noticed."""
    try:
        await job.wait()
    except JobNotFoundError:
        told.set()


@simulated
async def test_a_host_that_dies_between_two_looks_has_its_workers_ended_first() -> None:
    """Promise 2: no two executions of a job live."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, KEPT)
        first = await scene.host()
        old = first.host_id
        job = await first.hodei.submit("run 120", retry=THRICE)
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        second = await scene.host()
        slowly(second, 5)
        await anyio.sleep(3)
        first.power.pause()
        await anyio.sleep(LEASE_SECONDS - 4)
        assert old in scene.disk.hosts
        third = SceneHost(scene)
        held = Held(third, "abandoned_workers", "abandoned_jobs")
        tasks.start_soon(third.serve)
        await held.asked.wait()
        await scene.until(lambda: old not in scene.disk.hosts, LEASE_SECONDS)
        first.crash()
        held.answered.set()
        await third.opened.wait()
        await anyio.sleep(20)
        assert scene.history.violations == []
        assert scene.runs(job) == 1
        tasks.cancel_scope.cancel()


@simulated
async def test_a_cancel_that_is_stored_while_a_dead_hosts_job_is_closed_wins() -> None:
    """It was not there yet when the requests were read."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, KEPT)
        first, second = await scene.host(), await scene.host()
        await rest(second)
        job = await first.hodei.submit("run 60")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        rescue = second.hodei._host._neighbourhood._rescue  # type: ignore[union-attr]
        request = rescue._request
        asked, answered = anyio.Event(), anyio.Event()

        async def late(job: Job) -> CancelRequest | None:
            found = await request(job)
            asked.set()
            await answered.wait()
            return found

        rescue._request = late  # type: ignore[method-assign]
        first.crash()
        await asked.wait()
        wish = CancelRequest(at=simulated_clock().now(), reason="enough")
        await second.store.apply([RequestCancel((job.id,), wish)])
        answered.set()
        result = await second.hodei.handle(job.id).wait()
        assert (result.state, result.message) == (JobState.CANCELLED, "enough")
        tasks.cancel_scope.cancel()


@simulated
async def test_an_attempt_that_ended_while_the_store_was_asked_is_closed_before_the_next() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks, WARM)
        first, second = await scene.host(), await scene.host()
        old = first.host_id
        other = await first.hodei.submit("run 1", delay=1_000)
        job = await first.hodei.submit("run 60", retry=THRICE)
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        await rest(second)
        slowly(first, 0.6)
        first.power.pause()
        await scene.until(lambda: scene.state(job) is JobState.PENDING, 40)
        await anyio.sleep(1)
        first.power.go_on()
        await anyio.sleep(0.3)  # it knows by now that the job waits, and its worker is being ended
        held = Held(first, "get")
        first.hodei._host.dispatcher.cancel(other.id, "of which it was told")
        await held.asked.wait()
        await anyio.sleep(2)
        held.answered.set()
        result = await first.hodei.handle(job.id).wait()
        assert result.ok
        assert [attempt.host_id for attempt in result.attempts] == [old, first.host_id]
        assert (await first.hodei.run("run 1")).ok
        tasks.cancel_scope.cancel()


@simulated
async def test_what_another_host_has_started_does_not_expire() -> None:
    """Its `pending_timeout` counts to the first start, and each host has a timer for it."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, _ = await scene.host(), await scene.host()
        await rest(first)
        retry = RetryPolicy(max_attempts=3, backoff=Backoff(first=30, jitter=0))
        job = await first.hodei.submit("fail 1 1", pending_timeout=10, retry=retry)
        result = await job.wait()
        assert result.ok
        assert len(result.attempts) == 2
        tasks.cancel_scope.cancel()


@simulated
async def test_who_waits_for_a_job_that_is_pruned_as_it_ends_is_told() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        await rest(second)
        job = await second.hodei.submit("run 1")
        told = anyio.Event()
        tasks.start_soon(hears_that_it_is_gone, job, told)
        await first.hodei.handle(job.id).wait()
        await anyio.sleep(0.05)
        assert await first.hodei.prune(older_than=0) == 1
        await scene.until(told.is_set, 1)
        tasks.cancel_scope.cancel()


@simulated
async def test_who_waits_for_a_job_that_was_lost_and_pruned_is_told() -> None:
    """Its host was stopped meanwhile, and still has the attempt when it goes on."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        await rest(second)
        job = await first.hodei.submit("run 60")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        told = anyio.Event()
        tasks.start_soon(hears_that_it_is_gone, job, told)
        await anyio.sleep(1)
        first.power.pause()
        await scene.until(lambda: scene.state(job) is JobState.FAILED, 2 * LEASE_SECONDS)
        await anyio.sleep(0.05)
        assert await second.hodei.prune(older_than=0) == 1
        first.power.go_on()
        await scene.until(told.is_set, 20)
        tasks.cancel_scope.cancel()


@simulated
async def test_who_reads_a_job_while_it_ends_and_is_pruned_is_told() -> None:
    """The answer is older than the news, which came while nobody waited yet."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        await rest(second)
        job = await second.hodei.submit("run 2")
        await scene.until(lambda: scene.state(job) is JobState.RUNNING, 5)
        held = Held(second, "get")
        told = anyio.Event()
        tasks.start_soon(hears_that_it_is_gone, job, told)
        await held.asked.wait()
        await first.hodei.handle(job.id).wait()
        await anyio.sleep(0.05)
        assert await first.hodei.prune(older_than=0) == 1
        await anyio.sleep(1)
        held.answered.set()
        await scene.until(told.is_set, 1)
        tasks.cancel_scope.cancel()


@simulated
async def test_a_reader_that_comes_as_another_host_goes_on_does_not_number_its_log() -> None:
    """It knew less of the log than the host that runs the next attempt."""
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        first, second = await scene.host(), await scene.host()
        await rest(first)
        retry = RetryPolicy(max_attempts=2, backoff=Backoff(first=3, jitter=0))
        job = await first.hodei.submit("fail 1 1", retry=retry, delay=1)
        asks, asked, answered = count(1), anyio.Event(), anyio.Event()

        async def late(name: str) -> None:
            ask = next(asks) if name == "bounds" else 0
            if ask == 3:  # the reader's, for a buffer to follow
                asked.set()
                await answered.wait()
            elif ask == 4:  # of the host, which is about to begin
                answered.set()
                await anyio.sleep(0.01)

        first.store.late = late  # type: ignore[method-assign]
        entries: dict[int, int] = {}

        async def read() -> None:
            async for entry in job.logs():
                entries[entry.seq] = entry.attempt

        tasks.start_soon(read)
        await asked.wait()
        await scene.until(lambda: len(scene.disk.jobs[job.id].attempts) == 1, 20)
        await scene.until(lambda: scene.state(job) is JobState.PENDING, 20)
        await rest(second)
        await first.hodei.resume()
        await scene.until(lambda: scene.state(job) is JobState.SUCCEEDED, 20)
        await scene.until(lambda: len(entries) == 8, 5)
        assert entries == {seq: 1 + (seq - 1) // 4 for seq in range(1, 9)}
        tasks.cancel_scope.cancel()


@simulated
async def test_a_run_that_is_given_up_while_the_store_refuses_ends_its_job() -> None:
    async with anyio.create_task_group() as tasks:
        scene = Scene(tasks)
        host = await scene.host()
        turn = host.store.turn
        busy_until = 3.5

        async def busy() -> None:
            if simulated_clock().monotonic() < busy_until:
                msg = "somebody else holds it"
                raise StoreBusyError(msg)
            await turn()

        async def become_busy() -> None:
            await anyio.sleep(2.9)
            host.store.turn = busy  # type: ignore[method-assign]

        tasks.start_soon(become_busy)
        with anyio.move_on_after(3):
            await host.hodei.run(JobSpec("hang", grace=1.0))
        (job,) = scene.disk.jobs.values()
        assert job.state is JobState.CANCELLED
        assert scene.world.live() == []
        tasks.cancel_scope.cancel()
