from __future__ import annotations

import anyio
import attrs
import pytest

from hodei_core import (
    Hodei,
    InvalidJobError,
    JobNotFinalError,
    JobNotFoundError,
    JobSpec,
    JobState,
    KeyConflictError,
    QueueFullError,
    Reason,
    Resources,
    WaitingFor,
)
from hodei_core.backends.memory import MemoryProvider, MemoryStore
from tests.runtime.workshop import LIMIT, Workshop


async def test_priority_goes_first_then_the_order_of_submission(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            await hodei.submit("gate a")
            await workshop.has_started("gate a")
            for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
                await hodei.submit(f"print {name}", priority=priority)
            workshop.open("a")
    assert workshop.started[1:] == ["print b", "print e", "print a", "print c", "print d"]


async def test_a_job_that_waits_for_room_does_not_hold_those_behind_it(
    workshop: Workshop,
) -> None:
    provider = workshop.provider(slots=3, resources=Resources(cpus=3))
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider]) as hodei:
            await hodei.submit("gate a", resources=Resources(cpus=2))
            await workshop.has_started("gate a")
            large = await hodei.submit("print large", resources=Resources(cpus=3), priority=9)
            small = await hodei.submit("print small")
            assert (await small.wait()).ok
            assert (await large.snapshot()).state is JobState.PENDING
            workshop.open("a")
            assert (await large.wait()).ok


async def test_resources_and_slots_bound_what_runs_at_once(workshop: Workshop) -> None:
    provider = workshop.provider(slots=8, resources=Resources(cpus=8, memory="1GiB"))
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider]) as hodei:
            quarter = Resources(cpus=1, memory="256MiB")
            jobs = [await hodei.submit(f"gate {i}", resources=quarter) for i in range(10)]
            await workshop.has_started("gate 3")
            await anyio.wait_all_tasks_blocked()
            assert workshop.live == 4
            for i in range(10):
                workshop.open(str(i))
            for job in jobs:
                await job.wait()
    assert workshop.most == 4


async def test_what_no_worker_offers_is_unschedulable_and_says_why(workshop: Workshop) -> None:
    provider = workshop.provider(labels={"zone": "a"})
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider]) as hodei:
            for fields, words in (
                ({"resources": Resources(cpus=64)}, "it has 1 CPU, the job asks for 64"),
                ({"provider": "docker"}, "it is of provider 'memory', the job wants 'docker'"),
                ({"image": "alpine"}, "it offers no image, the job wants 'alpine'"),
                ({"requires": {"gpu": "a100"}}, "it has no label 'gpu'"),
                ({"requires": {"zone": "b"}}, "its label 'zone' is 'a'"),
            ):
                result = await hodei.run(JobSpec("exit 0", **fields))
                assert (result.state, result.reason) == (JobState.FAILED, Reason.UNSCHEDULABLE)
                assert result.message is not None
                assert words in result.message
            assert (await hodei.run("exit 0", requires={"zone": "a"}, provider="memory")).ok
    assert workshop.started == ["exit 0"]


async def test_a_key_that_is_known_returns_the_first_job(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        first = await hodei.submit("exit 0", key="k")
        again = await hodei.submit("exit 0", key="k", priority=7, labels={"x": "y"}, delay=60)
        assert again == first
        await first.wait()
        assert await hodei.submit("exit 0", key="k") == first
        with pytest.raises(KeyConflictError, match="'k'") as caught:
            await hodei.submit("exit 1", key="k")
        assert (caught.value.key, caught.value.job_id) == ("k", first.id)
        assert await hodei.prune(older_than=0) == 1
        assert await hodei.submit("exit 1", key="k") != first
    assert workshop.started == ["exit 0", "exit 1"]


async def test_max_pending_refuses_before_anything_is_stored(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], max_pending=2) as hodei:
            await hodei.submit("gate a")
            await workshop.has_started("gate a")
            known = await hodei.submit("exit 0", key="k")
            await hodei.submit("exit 0")
            with pytest.raises(QueueFullError) as caught:
                await hodei.submit("exit 0")
            assert caught.value.max_pending == 2
            with pytest.raises(QueueFullError) as caught:
                await hodei.submit_many(["exit 0"] * 3)
            assert str(caught.value) == "max_pending is 2: 2 pending, 3 more refused"
            assert await hodei.submit("exit 0", key="k") == known
            assert (await hodei.stats()).pending == 2
            workshop.open("a")


async def test_submit_many_is_all_or_nothing(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        await hodei.submit("exit 0", key="taken")
        with pytest.raises(KeyConflictError):
            await hodei.submit_many(["exit 0", JobSpec("exit 1", key="taken")])
        with pytest.raises(InvalidJobError):
            await hodei.submit_many(["exit 0", ""])
        with pytest.raises(TypeError, match="iterable of jobs"):
            await hodei.submit_many("exit 0")
        assert await hodei.submit_many([]) == []
        assert len(await hodei.list_jobs()) == 1
        handles = await hodei.submit_many(["exit 0", ["exit 0"], JobSpec("exit 0")])
        assert len({handle.id for handle in handles}) == 3


async def test_drain_lets_run_and_resume_assigns_again(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            running = await hodei.submit("gate a")
            await workshop.has_started("gate a")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hodei.drain)
                await anyio.wait_all_tasks_blocked()
                waiting = await hodei.submit("exit 0")
                await anyio.wait_all_tasks_blocked()
                assert (await waiting.snapshot()).waiting_for is WaitingFor.DRAIN
                workshop.open("a")
            assert (await running.wait()).ok
            await anyio.wait_all_tasks_blocked()
            assert (await waiting.snapshot()).state is JobState.PENDING
            await hodei.resume()
            assert (await waiting.wait()).ok


async def test_join_returns_when_nothing_is_left(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            await hodei.join()
            jobs = await hodei.submit_many(["exit 0"] * 10)
            delayed = await hodei.submit("exit 0", delay=0.02)
            await hodei.join()
            for job in (*jobs, delayed):
                assert (await job.snapshot()).state is JobState.SUCCEEDED


async def test_retry_repeats_a_final_job_and_takes_its_key(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("gate a", key="k", labels={"x": "y"})
            with pytest.raises(JobNotFinalError):
                await job.retry()
            workshop.open("a")
            await job.wait()
            again = await job.retry()
            assert again != job
            assert (await again.wait()).ok
            new = await again.snapshot()
            assert new.retried_from == job.id
            assert new.spec == (await job.snapshot()).spec
            assert len(new.attempts) == 1
            assert await hodei.submit("gate a", key="k") == again
            with pytest.raises(JobNotFoundError):
                await hodei.handle("nobody").retry()


async def test_listing_pages_from_the_newest(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        jobs = [await hodei.submit("exit 0", name=f"j{i % 2}") for i in range(5)]
        await hodei.join()
        first = await hodei.list_jobs(limit=2)
        assert [job.id for job in first] == [jobs[4].id, jobs[3].id]
        rest = await hodei.list_jobs(after=first[-1].id)
        assert [job.id for job in rest] == [job.id for job in reversed(jobs[:3])]
        assert len(await hodei.list_jobs(name="j1")) == 2
        assert len(await hodei.list_jobs(states=JobState.SUCCEEDED)) == 5
        assert await hodei.list_jobs(states=[JobState.FAILED]) == []
        with pytest.raises(JobNotFoundError):
            await hodei.list_jobs(after="nobody")
        with pytest.raises(ValueError, match="limit"):
            await hodei.list_jobs(limit=0)


async def test_fields_beside_a_spec_name_what_to_use(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        spec = JobSpec("exit 0")
        with pytest.raises(TypeError, match=r"attrs\.evolve"):
            await hodei.submit(spec, name="x")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="colour"):
            await hodei.submit("exit 0", colour="red")  # type: ignore[call-overload]
        with pytest.raises(InvalidJobError):
            await hodei.submit("exit 0", timeout=-1)
        assert (await hodei.run(attrs.evolve(spec, name="x"))).name == "x"
        assert len(await hodei.list_jobs()) == 1


async def test_a_client_only_submits_and_reads(workshop: Workshop) -> None:
    del workshop
    store = MemoryStore()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[]) as client:
            job = await client.submit("exit 0")
            assert "only submits and reads" in str(await job.explain())
            assert (await job.snapshot()).state is JobState.PENDING
            await client.resume()
            await anyio.wait_all_tasks_blocked()
            assert (await job.snapshot()).state is JobState.PENDING


async def test_two_providers_of_one_name_are_refused(workshop: Workshop) -> None:
    with pytest.raises(ValueError, match="'memory' comes more than once"):
        Hodei(providers=[workshop.provider(), workshop.provider()])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"store": "postgres://x"}, "store"),
        ({"max_pending": 0}, "max_pending"),
        ({"max_pending": True}, "max_pending"),
        ({"shutdown_timeout": -1}, "shutdown_timeout"),
        ({"stuck_after": float("nan")}, "stuck_after"),
    ],
)
async def test_an_argument_that_is_not_acceptable_is_named(
    arguments: dict[str, object], name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        Hodei(providers=[], **arguments)  # type: ignore[arg-type]


async def test_stats_count_jobs_workers_and_slots(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider(slots=2)]) as hodei:
            await hodei.submit("gate a")
            await workshop.has_started("gate a")
            await hodei.submit("exit 0", delay=60)
            stats = await hodei.stats()
            assert set(stats.jobs) == set(JobState)
            assert (stats.pending, stats.slots_used, stats.slots_total) == (1, 1, 2)
            assert stats.providers["memory"].failures == 0
            (worker,) = await hodei.list_workers()
            assert worker.idle_since is None
            workshop.open("a")
            await hodei.cancel_jobs(states=JobState.PENDING)
            await hodei.join()
            (worker,) = await hodei.list_workers()
            assert worker.idle_since is not None
            assert worker.jobs == ()
    assert await hodei.list_workers() == []


async def test_prune_deletes_what_ended_long_ago(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        job = await hodei.submit("print x")
        await job.wait()
        assert await hodei.prune(older_than=3600) == 0
        assert await hodei.prune(older_than=0) == 1
        with pytest.raises(JobNotFoundError):
            await job.wait()
        with pytest.raises(JobNotFoundError):
            async for _ in job.logs():
                raise AssertionError


async def test_a_bad_handler_is_refused() -> None:
    with pytest.raises(TypeError, match="handler"):
        MemoryProvider("not callable")  # type: ignore[arg-type]


async def test_more_slots_than_a_host_can_have_are_refused() -> None:
    """Each is a task: with a million it would not open for minutes."""
    with pytest.raises(ValueError, match="slots must be at most 65536, not 1000000"):
        MemoryProvider(lambda *_: anyio.sleep(0), slots=1_000_000)
