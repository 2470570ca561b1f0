"""What becomes of jobs in a file when their host closes."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hodei_core import (
    Backoff,
    Hodei,
    HodeiClosedError,
    JobStarted,
    JobState,
    Reason,
    RetryPolicy,
    StoreInvalidError,
)
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.memory import MemoryProvider
from hodei_core.ids import WorkerId
from hodei_core.ports import WorkerSession
from hodei_core.workers import Worker
from tests.sqlite.helpers import is_alive, make

LIMIT = 20.0
HANGS = "trap 'exit 0' TERM; sleep 60 & wait"


class LeftError(Exception):
    """How a block is left."""


def one_slot() -> LocalProvider:
    return LocalProvider(slots=1)


async def test_a_normal_end_waits_for_what_runs_and_leaves_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[one_slot()]) as hodei:
            async with hodei.events(JobStarted) as started:
                running = await hodei.submit("sleep 0.3; echo done")
                await anext(aiter(started))
            waiting = await hodei.submit("echo next")
            later = await hodei.submit("echo later", delay=3600)
        async with Hodei(path, providers=[]) as client:
            assert (await client.get_job(running.id)).state is JobState.SUCCEEDED
            for job in (waiting, later):
                kept = await client.get_job(job.id)
                assert (kept.state, kept.attempts) == (JobState.PENDING, ())
        async with Hodei(path, providers=[one_slot()]) as hodei:
            assert (await hodei.handle(waiting.id)).stdout == "next\n"


@pytest.mark.parametrize(
    ("policy", "state", "attempts", "uncounted"),
    [
        (RetryPolicy(), JobState.FAILED, 1, False),
        (RetryPolicy(max_attempts=2, backoff=Backoff(first=3600)), JobState.PENDING, 1, False),
        (RetryPolicy(requeue_interrupted=True), JobState.PENDING, 1, True),
    ],
    ids=["once", "twice", "requeued"],
)
async def test_an_end_by_an_exception_interrupts_what_runs(
    tmp_path: Path, policy: RetryPolicy, state: JobState, attempts: int, uncounted: bool
) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        with pytest.raises(LeftError):
            async with Hodei(path, providers=[one_slot()]) as hodei:
                async with hodei.events(JobStarted) as started:
                    job = await hodei.submit(HANGS, retry=policy)
                    await anext(aiter(started))
                waiting = await hodei.submit("true")
                raise LeftError
        async with Hodei(path, providers=[]) as client:
            kept = await client.get_job(job.id)
            assert kept.state is state
            assert len(kept.attempts) == attempts
            assert kept.attempt.reason is Reason.INTERRUPTED
            assert kept.attempt.uncounted is uncounted
            assert (await client.get_job(waiting.id)).state is JobState.PENDING


async def test_a_requeued_job_runs_again_under_the_next_host(tmp_path: Path) -> None:
    path, flag = tmp_path / "jobs.db", tmp_path / "second"
    policy = RetryPolicy(requeue_interrupted=True, backoff=Backoff(first=0.001))
    with anyio.fail_after(LIMIT):
        with pytest.raises(LeftError):
            async with Hodei(path, providers=[one_slot()]) as hodei:
                async with hodei.events(JobStarted) as started:
                    job = await hodei.submit(f"[ -e {flag} ] || {{ {HANGS}; }}", retry=policy)
                    await anext(aiter(started))
                raise LeftError
        flag.touch()
        async with Hodei(path, providers=[one_slot()]) as hodei:
            result = await hodei.handle(job.id)
            assert result.ok
            assert [attempt.number for attempt in result.attempts] == [1, 2]


@pytest.mark.parametrize("way", ["normally", "timeout", "exception"])
async def test_a_file_that_is_gone_keeps_nobody_who_leaves(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What took its place is left alone, and of the job nothing is left."""
    path, other, end = (tmp_path / name for name in ("jobs.db", "other.db", "end"))
    await make(other)
    content = other.read_bytes()
    hodei = Hodei(path, providers=[one_slot()], shutdown_timeout=0.2 if way == "timeout" else None)
    with anyio.fail_after(LIMIT):
        try:
            async with hodei:
                job = await hodei.submit(
                    f"echo $$; until [ -e {end} ]; do sleep 0.01; done", grace=1
                )
                pid = int((await anext(aiter(job.logs()))).text)
                for part in ("", "-wal", "-shm"):
                    Path(f"{path}{part}").unlink()
                other.rename(path)
                left_at = anyio.current_time()
                if way == "normally":
                    end.touch()
                if way == "exception":
                    raise LeftError
        except LeftError:
            assert way == "exception"
        assert anyio.current_time() - left_at < 8  # the job's grace and 2 s, on a busy machine
    assert path.read_bytes() == content
    assert not is_alive(pid)
    assert "how 1 attempts ended could not be recorded: the store is gone" in caplog.text
    assert f"leaving without the store: {path} was deleted or replaced" in caplog.text


async def test_a_drain_ends_though_a_slot_was_held_for_a_file_that_is_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[one_slot()]) as hodei:
            assert (await hodei.run("true")).ok
            path.unlink()
            with pytest.raises(StoreInvalidError):
                await hodei.submit("true")
            await hodei.drain()


async def test_a_worker_that_is_only_wanted_keeps_nobody_who_leaves(tmp_path: Path) -> None:
    """The file is gone, so that it cannot be written down, and its provider is not asked for it."""
    path = tmp_path / "jobs.db"
    made: list[str] = []
    wanted = anyio.Event()

    class Provider(MemoryProvider):
        async def provision(self, worker_id: WorkerId) -> WorkerSession:
            made.append(worker_id)
            return await super().provision(worker_id)

    provider = Provider(lambda *_: anyio.sleep(0), min_workers=1, max_workers=2, max_jobs=1)
    with anyio.fail_after(LIMIT), pytest.raises(LeftError):
        async with Hodei(path, providers=[provider]) as hodei:
            keep = hodei._host.fleet.keep_row

            async def keep_row(worker: Worker) -> None:
                if made and worker.id != made[0]:
                    path.unlink()
                    wanted.set()
                await keep(worker)

            hodei._host.fleet.keep_row = keep_row  # type: ignore[method-assign]
            await hodei.submit("used up by this")
            await wanted.wait()
            raise LeftError
    assert len(made) == 1


async def test_after_its_close_a_file_answers_no_more(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(tmp_path / "jobs.db", providers=[]) as client:
            job = await client.submit("true")
            waits: list[BaseException] = []

            async def wait() -> None:
                try:
                    await job.wait()
                except HodeiClosedError as error:
                    waits.append(error)

            async def read() -> None:
                try:
                    async for _ in job.logs():
                        raise AssertionError
                except HodeiClosedError as error:
                    waits.append(error)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await client.aclose()
        assert len(waits) == 2
        for ask in (job.snapshot, job.wait, job.output, client.stats, client.list_jobs):
            with pytest.raises(HodeiClosedError):
                await ask()
