"""A host and clients that share a file: each sees what the others do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hodei_core import (
    Event,
    Hodei,
    JobAssigned,
    JobEvent,
    JobFinished,
    JobHandle,
    JobStarted,
    JobState,
    JobSubmitted,
    Reason,
    SubscriberLagged,
)
from hodei_core.backends.local import LocalProvider

LIMIT = 20.0


@asynccontextmanager
async def host_and_client(tmp_path: Path) -> AsyncIterator[tuple[Hodei, Hodei]]:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[LocalProvider(slots=2)]) as host:
            async with Hodei(path, providers=[]) as client:
                yield host, client


async def test_a_client_submits_and_gets_the_result(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (_, client):
        result = await client.run("echo out; echo err >&2; exit 3")
        assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")


async def test_a_client_follows_a_log_while_it_is_written(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (_, client):
        flag = tmp_path / "go"
        job = await client.submit(f"echo one; until [ -e {flag} ]; do sleep 0.01; done; echo two")
        seen = []
        async for entry in job.logs():
            seen.append((entry.seq, entry.text))
            flag.touch()  # only then does the job go on
        assert seen == [(1, "one"), (2, "two")]


async def test_a_client_sees_the_events_of_its_host_in_order(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (host, client):
        async with client.events(JobEvent) as events:
            jobs = await host.submit_many(["true", "exit 1"])
            mine = await client.submit("true")
            wanted = {job.id for job in (*jobs, mine)}
            told: dict[str, list[JobEvent]] = {job_id: [] for job_id in wanted}
            async for event in events:
                assert isinstance(event, JobEvent)
                told[event.job_id].append(event)
                if isinstance(event, JobFinished):
                    assert (await client.get_job(event.job_id)).state.is_final
                    wanted.discard(event.job_id)
                if not wanted:
                    break
        for of in told.values():
            assert [type(event) for event in of] == [
                JobSubmitted,
                JobAssigned,
                JobStarted,
                JobFinished,
            ]
            assert [event.version for event in of] == [1, 2, 3, 4]


async def test_a_host_tells_its_own_subscribers_once(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (host, client), host.events(JobEvent) as events:
        job = await client.submit("true")
        told = []
        async for event in events:
            told.append(type(event))
            if isinstance(event, JobFinished):
                break
        assert told == [JobSubmitted, JobAssigned, JobStarted, JobFinished]
        assert (await job).ok


async def test_events_before_the_stream_was_entered_are_not_seen(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (host, client):
        early = await host.run("true")
        async with client.events(JobEvent) as events:
            late = await host.submit("true")
            async for event in events:
                assert isinstance(event, JobEvent)
                assert event.job_id != early.job_id
                if isinstance(event, JobFinished):
                    assert event.job_id == late.id
                    break


@pytest.mark.parametrize("followed", [False, True])
async def test_what_another_host_stored_is_read_though_somebody_follows(
    tmp_path: Path, followed: bool
) -> None:
    """The buffer that a follower waits in knows less than the store for a moment."""
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with (
            Hodei(path, providers=[LocalProvider(slots=1)]) as host,
            Hodei(path, providers=[]) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(5):
                end = tmp_path / "end"
                end.unlink(missing_ok=True)
                waits = f"echo first; until [ -e {end} ]; do sleep 0.01; done; echo second"
                job = await host.submit(waits)
                theirs = client.handle(job.id)
                begun = anyio.Event()

                async def follow(theirs: JobHandle = theirs, begun: anyio.Event = begun) -> None:
                    async for _ in theirs.logs():
                        begun.set()

                if followed:
                    tasks.start_soon(follow)
                    await begun.wait()
                end.touch()
                await job.wait()
                texts = [entry.text async for entry in theirs.logs(follow=False)]
                assert texts == ["first", "second"]
                assert [e.text async for e in theirs.logs(tail=1, follow=False)] == ["second"]
                assert await theirs.output() == b"first\nsecond\n"


async def test_a_client_cancels_what_runs_and_what_waits(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (host, client):
        async with host.events(JobStarted) as started:
            running = await host.submit("sleep 60")
            await anext(aiter(started))
        waiting = await host.submit("true", delay=60)
        for job in (running, waiting):
            result = await client.handle(job.id).cancel("enough")
            assert (result.state, result.message) == (JobState.CANCELLED, "enough")
        assert (await host.handle(running.id).wait()).state is JobState.CANCELLED


async def test_a_client_without_any_host_cancels_what_waits(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(tmp_path / "jobs.db", providers=[]) as client:
            job = await client.submit("true")
            assert (await job.cancel()).state is JobState.CANCELLED


async def test_what_waits_for_a_host_is_run_by_one_that_comes(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[]) as client:
            job = await client.submit("echo done", name="waits")
            async with Hodei(path, providers=[LocalProvider(slots=1)]):
                assert (await job.wait()).stdout == "done\n"
            assert (await client.list_jobs(name="waits"))[0].state is JobState.SUCCEEDED


async def test_a_client_retries_what_failed(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (host, client):
        first = await host.run(f"[ -e {tmp_path}/again ]")
        (tmp_path / "again").touch()
        again = await client.handle(first.job_id).retry()
        assert (await again.wait()).ok


async def test_joining_waits_for_the_jobs_of_every_host(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (host, client):
        await host.submit("sleep 0.2")
        await client.join()
        assert (await client.stats()).jobs[JobState.SUCCEEDED] == 1


async def test_a_draining_host_leaves_the_work_to_another(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with (
            Hodei(path, providers=[LocalProvider(slots=1)]) as one,
            Hodei(path, providers=[LocalProvider(name="two", slots=1)]),
        ):
            await one.drain()
            result = await one.run("true")
            assert result.attempts[0].provider == "two"


async def test_a_job_that_waits_for_a_host_that_drains_is_not_said_to_start(
    tmp_path: Path,
) -> None:
    async with host_and_client(tmp_path) as (host, client):
        await host.drain()
        job = await client.submit("true")
        (worker,) = await client.list_workers()
        said = f"worker {worker.id} has room: its host takes it, unless that is draining"
        assert said in str(await job.explain())
        assert "the host is draining" in str(await host.handle(job.id).explain())
        await host.resume()
        assert (await job.wait()).ok


async def test_the_pending_timeout_of_a_stored_job_is_kept_by_the_next_host(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[]) as client:
            job = await client.submit("true", pending_timeout=0.5, requires={"gpu": "1"})
        async with Hodei(path, providers=[LocalProvider(slots=1)]) as host:
            result = await host.handle(job.id).wait()
            assert result.reason is Reason.PENDING_TIMEOUT


async def test_a_job_that_no_live_host_could_run_says_what_is_missing(tmp_path: Path) -> None:
    async with host_and_client(tmp_path) as (host, client):
        job = await client.submit("true", requires={"gpu": "1"})
        before = time.monotonic()
        while "gpu" not in str(await host.handle(job.id).explain()):
            assert time.monotonic() - before < LIMIT
            await anyio.sleep(0)
        assert (await job.snapshot()).state is JobState.PENDING
        assert "gpu" in str(await job.explain())


async def test_a_client_tells_who_could_run_a_job_and_what_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[]) as client:
            job = await client.submit("true", priority=-1)
            assert str(await job.explain()) == (
                "It is PENDING: this program only submits and reads, and no host runs jobs."
            )
            async with Hodei(path, providers=[LocalProvider(slots=1)]) as host:
                await job
                async with host.events(JobStarted) as started:
                    running = await client.submit("sleep 60")
                    await anext(aiter(started))
                job = await client.submit("true")
                (worker,) = await client.list_workers()
                (registered,) = await host._host.store.hosts.select()  # type: ignore[union-attr]
                assert str(await job.explain()) == (
                    "It is PENDING: every worker that fits is in use (it is the next).\n"
                    f"  worker {worker.id}: its slot is in use by {running.id}\n"
                    f"  provider local of host {registered.id[:8]}: its workers could run it"
                )
                await running.cancel()


async def test_a_stream_tells_what_was_done_until_it_closed(tmp_path: Path) -> None:
    seen: list[type[Event]] = []
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            async with Hodei(tmp_path / "jobs.db", providers=[]) as client:
                ready = anyio.Event()

                async def read() -> None:
                    async with client.events() as stream:
                        ready.set()
                        seen.extend([type(event) async for event in stream])

                tasks.start_soon(read)
                await ready.wait()
                await client.submit("true")
    assert seen == [JobSubmitted]


async def test_who_follows_late_is_told_how_much_was_missed(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[]) as client, Hodei(path, providers=[]) as other:
            async with other.events() as slow, other.events() as quick:
                await client.submit_many(["true"] * 10_000)
                for _ in range(10_000):
                    assert isinstance(await anext(quick), JobSubmitted)
                told = [await anext(slow) for _ in range(4_097)]
        lagged, *events = told
        assert isinstance(lagged, SubscriberLagged)
        assert lagged.missed == 10_000 - 4_096
        assert all(isinstance(event, JobSubmitted) for event in events)


async def test_a_host_that_closes_offers_nothing_to_others(tmp_path: Path) -> None:
    path, gate = tmp_path / "jobs.db", tmp_path / "gate"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[]) as client, anyio.create_task_group() as tasks:
            host = Hodei(path, providers=[LocalProvider(slots=1)])
            await host.open()
            async with client.events(JobStarted) as started:
                await client.submit(f"until [ -e {gate} ]; do sleep 0.01; done")
                await anext(aiter(started))
            waiting = await client.submit("true")
            assert "its workers could run it" in str(await waiting.explain())
            tasks.start_soon(host.aclose)
            offered = True
            while offered:
                offered = "its workers could run it" in str(await waiting.explain())
            gate.touch()


async def test_a_stream_entered_before_the_opening_sees_what_waited(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[]) as client:
            waiting = await client.submit("true")
        host = Hodei(path, providers=[LocalProvider(slots=1)])
        async with host.events(JobEvent) as stream, host:
            told = []
            async for event in stream:
                assert isinstance(event, JobEvent)
                told.append((event.job_id, type(event)))
                if isinstance(event, JobFinished):
                    break
        assert told == [(waiting.id, kind) for kind in (JobAssigned, JobStarted, JobFinished)]
