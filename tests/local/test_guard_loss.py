"""When the guard itself dies, all that it ran ends, and the host is told and lives."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from hodei_core.backends.local import LocalProvider
from hodei_core.backends.local.session import LocalSession
from hodei_core.executions import Exit
from hodei_core.ids import WorkerId
from hodei_core.ports import NotStartedError, ProviderHost, WorkerLostError
from tests.local.helpers import (
    PYTHON,
    REPOSITORY,
    Recorder,
    alive,
    execution,
    marked,
    new_host,
    script_environment,
    state,
    watching,
    zombies_of,
)

pytestmark = pytest.mark.anyio

FLED = "setsid sh -c 'setsid sleep 300 & echo $!; echo $$; wait' & sleep 300 & echo $!; wait"


class Losing:
    """A worker that will be lost: what its jobs and its service raise."""

    def __init__(self, host: ProviderHost | None = None) -> None:
        self.provider = LocalProvider()
        self.host = host or new_host()
        self.errors: list[Exception] = []
        self.ends: list[Exit] = []

    async def __aenter__(self) -> Losing:
        await self.provider.open(self.host)
        session = await self.provider.provision(WorkerId("w"))
        assert isinstance(session, LocalSession)
        self.session = session
        self.tasks = await anyio.create_task_group().__aenter__()
        self.tasks.start_soon(self._serve)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.tasks.cancel_scope.cancel()
        await self.tasks.__aexit__(None, None, None)
        await self.provider.close()

    async def _serve(self) -> None:
        try:
            await self.session.run()
        except WorkerLostError as error:
            self.errors.append(error)

    def start(self, command: str) -> Recorder:
        output = Recorder()

        async def run() -> None:
            try:
                self.ends.append(await self.session.execute(execution(command), output))
            except WorkerLostError as error:
                self.errors.append(error)

        self.tasks.start_soon(run)
        return output

    async def lost(self, count: int) -> None:
        """Return when so many calls have raised."""
        with anyio.fail_after(5):
            while len(self.errors) < count:
                await anyio.wait_all_tasks_blocked()


async def test_a_job_that_kills_its_parent_loses_the_worker_and_nothing_more() -> None:
    async with Losing() as worker:
        other = worker.start(FLED)
        pids = await other.pids(3)
        with watching(*pids) as processes:
            worker.start("sleep 300 & kill -9 $PPID; sleep 300")
            await worker.lost(3)
            for process in processes:
                await process.gone(0.1)
        assert all("killed by signal 9" in str(error) for error in worker.errors)
        assert marked(worker.host.host_id) == []
        assert zombies_of(os.getpid()) == []
        assert other.calls[-2:] == ["finish stdout", "finish stderr"]


async def test_a_guard_that_is_killed_leaves_nothing_not_even_what_fled() -> None:
    async with Losing() as worker:
        outputs = [worker.start(FLED) for _ in range(4)]
        scrubbed = worker.start("echo $$; exec env -i sleep 300")
        pids = [pid for output in outputs for pid in await output.pids(3)]
        (leader,) = await scrubbed.pids(1)
        with anyio.fail_after(5):
            while Path(f"/proc/{leader}/environ").read_bytes():
                await anyio.lowlevel.checkpoint()
        pids.append(leader)
        with watching(*pids) as processes:
            began = time.monotonic()
            os.kill(worker.session.guard_pid, signal.SIGKILL)
            await worker.lost(6)
            assert time.monotonic() - began < 2
            for process in processes:
                await process.gone(0.1)
        assert marked(worker.host.host_id) == []
        assert zombies_of(os.getpid()) == []


async def test_a_lost_worker_takes_no_more_and_another_can_be_made() -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with Losing() as worker:
        os.kill(worker.session.guard_pid, signal.SIGKILL)
        await worker.lost(1)
        assert len(os.listdir("/proc/self/fd")) == before
        with pytest.raises(NotStartedError):
            await worker.session.execute(execution(["true"]), Recorder())
        descriptors = len(os.listdir("/proc/self/fd"))
        session = await worker.provider.provision(WorkerId("w2"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            assert (await session.execute(execution(["true"]), Recorder())).code == 0
            await session.terminate()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        await worker.session.terminate()


async def test_another_guard_of_the_same_host_keeps_its_jobs() -> None:
    async with Losing() as worker, Losing(worker.host) as other:
        outputs = [each.start("echo $$; sleep 300") for each in (worker, other)]
        (lost,), (kept,) = [await output.pids(1) for output in outputs]
        with watching(lost, kept) as processes:
            os.kill(worker.session.guard_pid, signal.SIGKILL)
            await worker.lost(2)
            await processes[0].gone(0.1)
            assert alive(kept)
            assert other.errors == []
            assert (await other.session.execute(execution("exit 4"), Recorder())).code == 4


async def test_a_guard_that_fails_ends_its_jobs_and_its_words_are_passed_on() -> None:
    async with Losing() as worker:
        output = worker.start(FLED)
        pids = await output.pids(3)
        with watching(*pids) as processes:
            worker.session._line.send(0, b"end\0no number\0", [])  # a bug, planted
            await worker.lost(2)
            for process in processes:
                await process.gone(0.1)
        assert all("ValueError" in str(error) for error in worker.errors)


async def test_a_guard_that_a_job_has_stopped_is_ended_with_its_jobs() -> None:
    async with Losing() as worker:
        output = worker.start("echo $$; sleep 0.1; kill -STOP $PPID; sleep 300")
        with watching(*await output.pids(1)) as (job,), watching(worker.session.guard_pid):
            with anyio.fail_after(5):
                while state(worker.session.guard_pid) != "T":
                    await anyio.lowlevel.checkpoint()
                await worker.session.terminate()
            await job.gone(0.1)


async def test_signals_other_than_kill_do_not_reach_the_guard() -> None:
    async with Losing() as worker:
        for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "PIPE", "ALRM"):
            os.kill(worker.session.guard_pid, signal.Signals[f"SIG{name}"])
        output = Recorder()
        end = await worker.session.execute(execution("kill -TERM $PPID; exit 3"), output)
        assert end.code == 3


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare"
)
async def test_a_host_that_is_the_first_process_is_left_no_zombies() -> None:
    """In a container without an init, what loses its guard becomes the host's own child."""
    script = f"""
import os, signal
import anyio
from tests.local.helpers import zombies_of
from tests.local.test_guard_loss import Losing

async def main():
    async with Losing() as worker:
        outputs = [worker.start({FLED!r}) for _ in range(3)]
        for output in outputs:
            await output.pids(3)
        os.kill(worker.session.guard_pid, signal.SIGKILL)
        await worker.lost(4)
    print(os.getpid(), zombies_of(os.getpid()))

anyio.run(main)
"""
    command = ["unshare", "--pid", "--fork", "--mount-proc", PYTHON, "-c", script]
    result = await anyio.run_process(command, env=script_environment(), cwd=REPOSITORY, stderr=None)
    assert result.stdout == b"1 []\n"
