"""What is said of a job while workers come and go, and where its time went afterwards."""

from __future__ import annotations

from datetime import timedelta

import anyio

from hodei_core import (
    Backoff,
    Hodei,
    JobHandle,
    JobState,
    ProvisionError,
    Resources,
    RetryPolicy,
    WaitingFor,
    WorkerLost,
    WorkerPolicy,
)
from hodei_core.testing import Act, Making, ScriptedProvider, capture_events, simulated
from hodei_core.testing.acts import Acts

ACTS: Acts = {
    "endless": Act(ends=False),
    "long": Act(takes=100),
    "short": Act(takes=1),
    "busy": Act(refuses=1),
}
ONE = WorkerPolicy(max_workers=1, lease=None)


def provider(
    makings: Making | list[Making] | None = None, policy: WorkerPolicy = ONE
) -> ScriptedProvider:
    return ScriptedProvider(ACTS, makings=makings or Making(), policy=policy)


async def told(job: JobHandle) -> str:
    """Return what is said of a job, without where its time went."""
    lines = str(await job.explain()).splitlines()
    return "\n".join(line for line in lines if not line.startswith("  ") or ":" in line[:60])


async def summary(job: JobHandle) -> str:
    return (await job.explain()).summary


async def of_provider(job: JobHandle) -> list[str]:
    return [why for _, why in (await job.explain()).providers]


async def of_workers(job: JobHandle) -> list[str]:
    return [why for _, why in (await job.explain()).workers]


@simulated
async def test_a_worker_is_on_its_way_and_since_when() -> None:
    async with Hodei(providers=[provider(Making(delay=10))]) as hodei:
        job = await hodei.submit("short")
        await anyio.sleep(3.2)
        assert await summary(job) == "It is PENDING: scripted has been making a worker for 3.2 s."
        assert await of_workers(job) == ["it is being made, for 3.2 s"]
        assert await of_provider(job) == ["it has been making a worker for 3.2 s"]
        assert (await job.snapshot()).waiting_for is WaitingFor.PROVISIONING


@simulated
async def test_every_worker_is_in_use_and_another_is_on_its_way() -> None:
    makings = [Making(), Making(delay=10)]
    policy = WorkerPolicy(max_workers=2, lease=None)
    async with Hodei(providers=[provider(makings, policy)]) as hodei:
        first = await hodei.submit("long")
        await anyio.sleep(1)
        job = await hodei.submit("short")
        await anyio.sleep(2)
        assert await summary(job) == (
            "It is PENDING: every worker that fits is in use, and scripted has been making "
            "a worker for 2.0 s (it is the next)."
        )
        await first.cancel()


@simulated
async def test_the_provider_has_as_many_workers_as_it_may() -> None:
    async with Hodei(providers=[provider()]) as hodei:
        first = await hodei.submit("long")
        await anyio.sleep(1)
        job = await hodei.submit("short")
        await anyio.sleep(1)
        assert await summary(job) == (
            "It is PENDING: every worker that fits is in use (it is the next)."
        )
        assert await of_workers(job) == [f"its slot is in use by {first.id}"]
        assert await of_provider(job) == ["it has as many workers as it may"]


@simulated
async def test_a_worker_that_drains_counts_until_it_is_gone() -> None:
    policy = WorkerPolicy(max_workers=1, max_lifetime=5, lease=None)
    async with Hodei(providers=[provider(policy=policy)]) as hodei:
        await hodei.submit("long")
        await anyio.sleep(10)
        job = await hodei.submit("short")
        await anyio.sleep(1)
        assert await of_workers(job) == ["it is draining: it takes no more jobs"]
        assert await summary(job) == (
            "It is PENDING: no worker is there, and none can be made now "
            "(scripted: it has as many workers as it may)."
        )


@simulated
async def test_the_breaker_is_open_and_for_how_long() -> None:
    failing = Making(error=ProvisionError("no room on the machine"))
    async with Hodei(providers=[provider([failing, failing, Making()])]) as hodei:
        job = await hodei.submit("short")
        await anyio.sleep(0.25)
        (why,) = await of_provider(job)
        begins = "it failed to make a worker (no room on the machine); it is asked again in 0."
        assert why.startswith(begins)
        assert await summary(job) == (
            f"It is PENDING: no worker is there, and none can be made now (scripted: {why})."
        )
        stats = (await hodei.stats()).providers["scripted"]
        assert (stats.breaker, stats.failures) == ("open", 1)
        assert stats.retry_at is not None
        assert (await job.wait()).ok
        assert (await hodei.stats()).providers["scripted"].breaker == "closed"


@simulated
async def test_the_breaker_lets_one_probe_through() -> None:
    makings = [Making(error=ProvisionError("no room")), Making(delay=10)]
    policy = WorkerPolicy(max_workers=3, lease=None)
    scripted = provider(makings, policy)
    async with Hodei(providers=[scripted]) as hodei:
        jobs = await hodei.submit_many(["long"] * 3)
        await anyio.sleep(5)
        assert (await hodei.stats()).providers["scripted"].breaker == "probing"
        begun = [worker for worker in scripted.workers.values() if worker.asked_at > 0.5]
        assert len(begun) == 1
        assert jobs[0].id == (await jobs[0].explain()).job_id
        await hodei.cancel_jobs()


@simulated
async def test_the_rate_is_reached_and_until_when() -> None:
    policy = WorkerPolicy(max_workers=9, starts_per_minute=2, lease=None)
    async with Hodei(providers=[provider(policy=policy)]) as hodei:
        jobs = await hodei.submit_many(["long"] * 3)
        await anyio.sleep(20)
        assert await of_provider(jobs[2]) == [
            "it has begun 2 within a minute, the most that it may; it is asked again in 40.0 s"
        ]


@simulated
async def test_a_worker_is_kept_for_the_job_that_others_overtook() -> None:
    four = ScriptedProvider(ACTS, slots=4, resources=Resources(cpus=4), policy=ONE)
    async with Hodei(providers=[four]) as hodei:
        await hodei.submit("endless")
        await anyio.sleep(1)
        large = await hodei.submit("short", resources=Resources(cpus=4))
        await hodei.run("short")
        await anyio.sleep(31)
        small = await hodei.submit("short")
        await anyio.sleep(0.1)
        (worker,) = [worker.id for worker in await hodei.list_workers()]
        assert await summary(large) == (
            f"It is PENDING: worker {worker} is kept for it and filled no further."
        )
        assert await of_workers(small) == [
            f"it is kept for job {large.id}, which others have overtaken for long"
        ]
        await large.cancel()
        assert (await small.wait()).ok
        await hodei.cancel_jobs()


@simulated
async def test_a_lost_worker_is_shown_until_it_is_certain_that_it_is_gone() -> None:
    makings = [Making(silent_after=1, end_failures=4), Making()]
    async with Hodei(providers=[provider(makings, WorkerPolicy(max_workers=1))]) as hodei:
        async with capture_events(hodei, WorkerLost) as lost:
            first = await hodei.submit("long")
            job = await hodei.submit("short")
            await lost.wait_for(WorkerLost)
            await anyio.sleep(0.05)
            assert await of_workers(job) == ["it is lost: it has not answered for 10 s"]
            assert await of_provider(job) == ["it has as many workers as it may"]
            assert await hodei.list_workers() == []
            assert (await first.wait()).state is JobState.FAILED
            assert (await job.wait()).ok


@simulated
async def test_a_provider_can_never_and_another_is_busy() -> None:
    never = ScriptedProvider(
        ACTS,
        name="never",
        makings=Making(error=ProvisionError("image refused", permanent=True)),
        policy=WorkerPolicy(lease=None),
    )
    async with Hodei(providers=[never, provider()]) as hodei:
        await hodei.submit("long")
        await anyio.sleep(1)
        job = await hodei.submit("short")
        await anyio.sleep(1)
        assert await of_provider(job) == [
            "it can never make a worker: image refused",
            "it has as many workers as it may",
        ]


@simulated
async def test_where_the_time_of_a_job_went() -> None:
    policy = RetryPolicy(max_attempts=2, backoff=Backoff(first=4, jitter=0))
    acts = {"flaky": Act(takes=3, fails=1)}
    scripted = ScriptedProvider(acts, makings=Making(delay=2), policy=ONE)
    async with Hodei(providers=[scripted]) as hodei:
        job = await hodei.submit("flaky", delay=10, retry=policy)
        result = await job.wait()
        explanation = await job.explain()
        worker = result.attempts[0].worker_id
        assert [(kind, lasted.total_seconds()) for kind, lasted, _ in explanation.history] == [
            (WaitingFor.DELAY, 10),
            (WaitingFor.PROVISIONING, 2),
            (JobState.RUNNING, 3),
            (WaitingFor.BACKOFF, 4),
            (JobState.RUNNING, 3),
        ]
        assert [why for _, _, why in explanation.history] == [
            "its delay",
            "scripted is making a worker that fits",
            f"attempt 1 on {worker}, which ended EXIT_CODE",
            "the pause before the next try",
            f"attempt 2 on {worker}",
        ]
        assert result.finished_at is not None
        total = sum((lasted for _, lasted, _ in explanation.history), timedelta(0))
        assert total == result.finished_at - result.submitted_at
        assert str(explanation).splitlines()[1] == "  10.0 s DELAY: its delay"


@simulated
async def test_the_time_of_a_drain_and_of_a_free_return_is_told_too() -> None:
    async with Hodei(providers=[provider()]) as hodei:
        await hodei.drain()
        job = await hodei.submit("busy")
        await anyio.sleep(5)
        await hodei.resume()
        assert (await job.wait()).ok
        history = (await job.explain()).history
        kinds = [kind for kind, _, _ in history]
        assert kinds[0] is WaitingFor.DRAIN
        assert history[0][1:] == (timedelta(seconds=5), "the host was draining")
        assert WaitingFor.BACKOFF in kinds


@simulated
async def test_a_job_that_was_cancelled_while_it_waited_has_its_history_too() -> None:
    async with Hodei(providers=[provider(Making(delay=50))]) as hodei:
        job = await hodei.submit("short")
        await anyio.sleep(7)
        await job.cancel()
        ((kind, lasted, _),) = (await job.explain()).history
        assert (kind, lasted) == (WaitingFor.PROVISIONING, timedelta(seconds=7))
