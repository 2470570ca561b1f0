from __future__ import annotations

import anyio

from hodei_core import (
    Backoff,
    Hodei,
    JobHandle,
    JobSpec,
    JobState,
    Resources,
    RetryPolicy,
    WaitingFor,
)
from hodei_core.testing import FakeClock
from tests.runtime.workshop import LIMIT, Workshop


async def told(job: JobHandle) -> str:
    return str(await job.explain())


async def worker_of(hodei: Hodei) -> str:
    (worker,) = await hodei.list_workers()
    return worker.id


async def test_due_and_about_to_start(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        worker = await worker_of(hodei)
        job, _ = await hodei.submit_many(["exit 0", "exit 0"])
        explanation = await job.explain()
        assert str(explanation) == (
            "It is PENDING: due, and about to start.\n"
            f"  worker {worker}: it has room\n"
            "  provider memory: it has as many workers as it may"
        )
        assert (explanation.job_id, explanation.position) == (job.id, 0)
        assert explanation.workers == ((worker, "it has room"),)
        assert [name for name, _ in explanation.providers] == ["memory"]


async def test_all_slots_in_use_and_by_which_jobs(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider(slots=2)]) as hodei:
            worker = await worker_of(hodei)
            a, b = await hodei.submit("gate a"), await hodei.submit("gate b")
            await hodei.submit("print first")
            job = await hodei.submit("print second")
            await workshop.has_started("gate b")
            assert await told(job) == (
                "It is PENDING: every worker that fits is in use (1 ahead of it).\n"
                f"  worker {worker}: all 2 slots are in use by {a.id}, {b.id}\n"
                "  provider memory: it has as many workers as it may"
            )
            workshop.open("a")
            workshop.open("b")


async def test_delayed(workshop: Workshop) -> None:
    clock = FakeClock()
    async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
        worker = await worker_of(hodei)
        job = await hodei.submit("exit 0", delay=90)
        clock.advance(10.25)
        assert await told(job) == (
            "It is PENDING: its delay ends in 1 min 20 s.\n"
            f"  worker {worker}: it has room\n"
            "  provider memory: it has as many workers as it may"
        )
        await job.cancel()


async def test_backing_off_after_which_failure(workshop: Workshop) -> None:
    clock = FakeClock()
    policy = RetryPolicy(max_attempts=4, backoff=Backoff(first=20, jitter=0))
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            worker = await worker_of(hodei)
            job = await hodei.submit("fail 1", retry=policy)
            while (await job.snapshot()).waiting_for is not WaitingFor.BACKOFF:
                await anyio.lowlevel.checkpoint()
            assert await told(job) == (
                "It is PENDING: attempt 1 of 4 failed (EXIT_CODE, exit code 1); "
                "the next try is due in 20.0 s.\n"
                f"  worker {worker}: it has room\n"
                "  provider memory: it has as many workers as it may"
            )
            await job.cancel()


async def test_asks_for_more_than_any_worker_offers(workshop: Workshop) -> None:
    provider = workshop.provider(resources=Resources(cpus=2, memory="1GiB"))
    async with Hodei(providers=[provider]) as hodei:
        worker = await worker_of(hodei)
        cpus = await hodei.submit("exit 0", resources=Resources(cpus=64))
        assert await told(cpus) == (
            "It is PENDING: no worker or provider could ever run it.\n"
            f"  worker {worker}: it has 2 CPUs, the job asks for 64\n"
            "  provider memory: it has 2 CPUs, the job asks for 64"
        )
        await cpus.wait()
        assert await told(cpus) == (
            "It ended FAILED (UNSCHEDULABLE): no provider could ever run it: "
            "memory: it has 2 CPUs, the job asks for 64."
        )
        memory = await hodei.submit("exit 0", resources=Resources(memory="2GiB"))
        await memory.wait()
        assert await told(memory) == (
            "It ended FAILED (UNSCHEDULABLE): no provider could ever run it: "
            "memory: it has 1 GiB of memory, the job asks for 2 GiB."
        )


async def test_wants_a_provider_an_image_or_a_label_that_none_has(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        worker = await worker_of(hodei)
        for spec, why in (
            (
                JobSpec("exit 0", provider="docker"),
                "it is of provider 'memory', the job wants 'docker'",
            ),
            (
                JobSpec("exit 0", image="alpine:3"),
                "it offers no image, the job wants 'alpine:3'",
            ),
            (
                JobSpec("exit 0", requires={"gpu": "a100"}),
                "it has no label 'gpu', the job requires gpu=a100",
            ),
        ):
            job = await hodei.submit(spec)
            assert await told(job) == (
                "It is PENDING: no worker or provider could ever run it.\n"
                f"  worker {worker}: {why}\n"
                f"  provider memory: {why}"
            )
            await job.wait()
            assert await told(job) == (
                f"It ended FAILED (UNSCHEDULABLE): no provider could ever run it: memory: {why}."
            )


async def test_draining(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        worker = await worker_of(hodei)
        await hodei.drain()
        job = await hodei.submit("exit 0")
        assert await told(job) == (
            "It is PENDING: the host is draining and assigns no jobs until resume().\n"
            f"  worker {worker}: it has room\n"
            "  provider memory: it has as many workers as it may"
        )
        await hodei.resume()


async def test_running_and_finished(workshop: Workshop) -> None:
    clock = FakeClock()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], clock=clock) as hodei:
            worker = await worker_of(hodei)
            job = await hodei.submit("gate a")
            await workshop.has_started("gate a")
            clock.advance(0.1)
            while (await job.snapshot()).state is not JobState.RUNNING:
                await anyio.lowlevel.checkpoint()
            clock.advance(75)
            running = f"It is RUNNING: attempt 1 on worker {worker}, for 1 min 15 s."
            assert await told(job) == running
            workshop.open("a")
            await job.wait()
            assert await told(job) == "It ended SUCCEEDED, exit code 0."
            failed = await hodei.submit("exit 3")
            await failed.wait()
            assert await told(failed) == "It ended FAILED (EXIT_CODE), exit code 3."
