"""Hosts of every kind: what they do with SIGCHLD, threads and forks, and how they die."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.local.helpers import (
    PYTHON,
    REPOSITORY,
    local,
    marked,
    script_environment,
    started,
    watching,
    zombies_of,
)

pytestmark = pytest.mark.anyio

DAEMON = (
    "setsid sh -c \"setsid sh -c 'echo pid \\$\\$; exec sleep 300' & echo pid \\$\\$; wait\" & "
    "sleep 300 & echo pid $!; wait"
)
"""Prints three pids: of a daemon, of the one that it fled from, of a plain child."""


class HostProcess:
    """A host in a process of its own, and the lines that it prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._text = b""

    async def lines(self, count: int) -> list[list[str]]:
        """Return its first lines, each split into words."""
        while self._text.count(b"\n") < count:
            await anyio.wait_readable(self._fd)
            data = os.read(self._fd, 65536)
            assert data, self._text.decode()
            self._text += data
        return [line.split() for line in self._text.decode().splitlines()]

    async def pids(self, word: str, count: int, lines: int) -> list[int]:
        pids = [int(line[1]) for line in await self.lines(lines) if line[0] == word]
        assert len(pids) == count
        return pids

    async def codes(self, count: int) -> list[int]:
        return [int(line[1]) for line in await self.lines(count + 1) if line[0] == "exit"]


@asynccontextmanager
async def host(kind: str, backend: str, *jobs: str) -> AsyncIterator[HostProcess]:
    program = str(REPOSITORY / "tests" / "local" / "host_program.py")
    with subprocess.Popen(  # noqa: ASYNC220 - made and read without a wait
        [PYTHON, program, kind, backend, *jobs],
        stdout=subprocess.PIPE,
        env=script_environment(),
        cwd=REPOSITORY,
    ) as process:
        try:
            with anyio.fail_after(30):
                yield HostProcess(process)
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["plain", "forking", "ignoring", "reaping", "threaded"])
async def test_nothing_outlives_a_host_that_is_killed_by_more_than_a_second(
    kind: str, anyio_backend_name: str
) -> None:
    forks = int(kind == "forking")
    async with host(kind, anyio_backend_name, *[DAEMON] * 4) as process:
        lines = 1 + forks + 4 * 3
        pids = await process.pids("pid", 12, lines)
        (guard,) = await process.pids("guard", 1, lines)
        fork = await process.pids("fork", forks, lines)
        with watching(*fork), watching(guard, *pids) as processes:
            process.process.kill()
            with anyio.fail_after(1):
                for watched in processes:
                    await watched.gone()


async def test_nothing_outlives_a_host_that_ends_without_closing(anyio_backend_name: str) -> None:
    async with host("plain", anyio_backend_name, DAEMON) as process:
        pids = await process.pids("pid", 3, 4)
        with watching(*pids) as processes:
            process.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(1):
                for watched in processes:
                    await watched.gone()


@pytest.mark.parametrize("kind", ["plain", "ignoring", "reaping", "threaded", "forking"])
async def test_exit_codes_are_right_whatever_the_host_does_with_its_children(
    kind: str, anyio_backend_name: str
) -> None:
    jobs = [f"exit {code}" for code in (0, 1, 7, 255)] + ["kill -SEGV $$"]
    async with host(kind, anyio_backend_name, *jobs) as process:
        extra = int(kind == "forking")
        lines = await process.lines(1 + extra + len(jobs))
        codes = sorted(int(line[1]) for line in lines if line[0] == "exit")
        forks = [int(line[1]) for line in lines if line[0] == "fork"]
        with watching(*forks):
            pass
        assert codes == [0, 1, 7, 139, 255]
        with anyio.fail_after(5):
            pidfd = os.pidfd_open(process.process.pid)
            try:
                await anyio.wait_readable(pidfd)
            finally:
                os.close(pidfd)
        assert process.process.wait() == 0


async def test_a_fork_of_the_host_that_holds_the_pipes_does_not_hold_the_jobs() -> None:
    async with local() as here:
        pids = []
        try:
            async with anyio.create_task_group() as tasks:
                codes = []

                async def one() -> None:
                    end, output = await here.run("echo out; sleep 0.2; echo more; exit 3")
                    codes.append((end.code, output.stdout))

                for _ in range(3):
                    tasks.start_soon(one)
                await anyio.wait_all_tasks_blocked()
                pids.append(_fork())
            assert codes == [(3, b"out\nmore\n")] * 3
            for _ in range(20):
                assert (await here.run("echo x"))[0].code == 0
            before = time.process_time()
            await here.run("sleep 1")
            assert time.process_time() - before < 0.1  # closed pipes are reported no more
            with watching(here.guard_pid) as (guard,):
                await here.session.terminate()
                await guard.gone(0.1)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)  # noqa: ASYNC222 - it was killed


def _fork() -> int:
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


async def test_several_hosts_in_one_process_do_not_touch_each_other() -> None:
    async with local() as one, local() as other:
        assert one.guard_pid != other.guard_pid
        async with started(one, "echo $$; exec sleep 300") as job:
            (pid,) = await job.output.pids(1)
            assert (await other.run("exit 4"))[0].code == 4
            await other.session.terminate()
            assert marked(one.host_id) == [pid]
            assert (await one.run("exit 5"))[0].code == 5


async def test_no_zombie_is_left_in_the_host() -> None:
    async with local() as here:
        await here.run("sleep 300 & exit 0")
    assert zombies_of(os.getpid()) == []


async def test_a_host_needs_neither_trio_nor_what_comes_with_it() -> None:
    script = """
import sys
sys.modules["trio"] = sys.modules["sniffio"] = None
import anyio
from tests.local.helpers import local

async def main():
    async with local() as here:
        print((await here.run("exit 3"))[0].code)

anyio.run(main)
"""
    result = await anyio.run_process(
        [PYTHON, "-c", script], env=script_environment(), cwd=REPOSITORY, stderr=None
    )
    assert result.stdout == b"3\n"
