"""Ending: by itself with something left behind, and by cancellation, with all of its tree."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import attrs
import pytest

from hodei_core.backends.local import LocalProvider, guard
from hodei_core.backends.local.session import LocalSession
from hodei_core.ids import JobId, WorkerId
from hodei_core.logs import LogSource
from hodei_core.ports import NotStartedError, StartFailedError, WorkerLostError
from tests.local.helpers import (
    PYTHON,
    Recorder,
    alive,
    execution,
    local,
    marked,
    new_host,
    pids_in,
    started,
    state,
    watching,
)

pytestmark = pytest.mark.anyio

DAEMON = """
import os, sys, time
# Twice into a session of its own, and away from its parent: the classic daemon.
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        if {quiet}:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2): os.dup2(null, fd)
        os.write(writing, b"%d\\n" % os.getpid())
        time.sleep(300)
    os._exit(0)
os.wait()
print(os.read(reading, 99).decode(), end="", flush=True)
"""


# By itself


async def test_a_child_in_the_background_that_keeps_the_pipe_delays_the_end_by_a_second() -> None:
    async with local() as here:
        began = time.monotonic()
        end, output = await here.run("sleep 300 & echo $!; exit 3")
        assert 0.9 < time.monotonic() - began < 3
        assert end.code == 3
        assert not alive(pids_in(output.stdout)[0])


async def test_what_is_printed_within_a_second_of_the_leaders_exit_is_kept() -> None:
    async with local() as here:
        end, output = await here.run("(echo early; sleep 0.3; echo late) & exit 0")
    assert end.code == 0
    assert output.stdout == b"early\nlate\n"
    assert output.calls[-2:] == ["finish stdout", "finish stderr"]


async def test_a_child_that_keeps_no_pipe_is_gone_when_the_job_has_ended() -> None:
    async with local() as here:
        for _ in range(10):
            began = time.monotonic()
            end, output = await here.run("sleep 300 >/dev/null 2>&1 & echo $!; exit 0")
            assert end.code == 0
            assert time.monotonic() - began < 0.9
            assert not alive(pids_in(output.stdout)[0])


@pytest.mark.parametrize("quiet", [True, False], ids=["without a pipe", "with a pipe"])
async def test_a_daemon_that_fled_by_two_sessions_is_gone_when_the_job_has_ended(
    quiet: bool,
) -> None:
    async with local() as here:
        end, output = await here.run([PYTHON, "-c", DAEMON.format(quiet=quiet)])
        assert end.code == 0
        assert not alive(pids_in(output.stdout)[0])


async def test_a_daemon_of_one_job_is_not_taken_for_anothers() -> None:
    async with (
        local() as here,
        started(here, f"{PYTHON} -c '{DAEMON.format(quiet=True)}'; sleep 300") as job,
    ):
        (pid,) = await job.output.pids(1)
        with watching(pid):
            for _ in range(5):
                await here.run("sleep 300 >/dev/null 2>&1 & exit 0")
                await here.run(["true"])
            assert alive(pid)
            await job.cancelled()
            assert not alive(pid)


async def test_a_job_with_an_empty_id_owns_nothing_of_anothers() -> None:
    """A mark that is not set would match it, and the guard end what is another job's."""
    nameless = attrs.evolve(execution("echo $$; exec sleep 300"), job_id=JobId(""))
    scope, output = anyio.CancelScope(), Recorder()

    async def run() -> None:
        with scope:
            await here.session.execute(nameless, output)
        ended.set()

    async with local() as here, anyio.create_task_group() as tasks:
        ended = anyio.Event()
        tasks.start_soon(run)
        await output.pids(1)
        async with started(here, f"{PYTHON} -c '{DAEMON.format(quiet=True)}'; sleep 300") as job:
            (pid,) = await job.output.pids(1)
            with watching(pid):
                scope.cancel()
                await ended.wait()
                assert alive(pid)


SCRUBBED = """
import os, subprocess
child = subprocess.Popen(
    ["sh", "-c", "echo $$; exec sleep 300 >/dev/null 2>&1"],
    env={{}}, stdout=subprocess.PIPE, start_new_session={session},
)
os.write(1, child.stdout.readline())  # once it is there, it has an environment without marks
os._exit(4)
"""


async def test_what_scrubbed_its_marks_in_its_session_is_ended_with_the_job() -> None:
    async with local() as here:
        end, output = await here.run([PYTHON, "-c", SCRUBBED.format(session=False)])
        assert end.code == 4
        (pid,) = pids_in(output.stdout)
        assert not alive(pid)


async def test_what_left_its_session_and_scrubbed_its_marks_ends_with_the_provider() -> None:
    async with local() as here:
        end, output = await here.run([PYTHON, "-c", SCRUBBED.format(session=True)])
        assert end.code == 4
        with watching(*pids_in(output.stdout)) as (process,):
            assert alive(process.pid)
            await here.session.terminate()
            await process.gone(0.1)


async def test_the_exit_is_the_leaders_even_if_a_child_ends_otherwise() -> None:
    async with local() as here:
        end, _ = await here.run("(kill -SEGV $(sh -c 'echo $PPID')) & wait; exit 9")
    assert end.code == 9


async def test_a_writer_that_goes_on_after_the_exit_does_not_keep_the_job() -> None:
    async with local() as here:
        began = time.monotonic()
        end, output = await here.run("while :; do echo y; done & exit 0")
        assert time.monotonic() - began < 4
    assert end.code == 0
    assert len(output.stdout) > 1000


async def test_a_writer_that_cannot_be_told_to_be_the_jobs_does_not_keep_it() -> None:
    script = (
        "import os, subprocess\n"
        "subprocess.Popen(['yes'], env={}, start_new_session=True)\n"
        "os._exit(8)"
    )
    async with local() as here:
        output = Recorder(limit=1)
        with anyio.fail_after(10):
            end = await here.session.execute(execution([PYTHON, "-c", script]), output)
        assert end.code == 8
        assert set(output.stdout) == set(b"y\n")
        assert len(output.stdout) <= 2 * 65536  # one read, and what the pipe held in the end


# By cancellation


async def test_cancelling_ends_with_sigterm_and_returns_the_exit() -> None:
    async with local() as here, started(here, "echo up; sleep 300") as job:
        await job.output.saw(b"up")
        began = time.monotonic()
        end = await job.cancelled()
        assert end.code == 128 + signal.SIGTERM
        assert time.monotonic() - began < 1
        assert job.output.calls[-2:] == ["finish stdout", "finish stderr"]


async def test_a_job_may_clean_up_within_its_grace_and_what_it_prints_is_kept() -> None:
    clean_up = "echo bye; echo err >&2; sleep 0.2; echo last; exit 7"
    command = f"trap '{clean_up}' TERM; echo up; sleep 300 & wait"
    async with local() as here, started(here, command) as job:
        await job.output.saw(b"up")
        end = await job.cancelled()
        assert end.code == 7
        assert job.output.stdout == b"up\nbye\nlast\n"
        assert job.output.stderr == b"err\n"


async def test_who_ignores_sigterm_is_killed_when_the_grace_is_over() -> None:
    async with local() as here, started(here, "trap '' TERM; echo up; sleep 300", grace=0.3) as job:
        await job.output.saw(b"up")
        began = time.monotonic()
        end = await job.cancelled()
        assert end.code == 128 + signal.SIGKILL
        assert 0.29 < time.monotonic() - began < 1.5


async def test_without_grace_a_job_is_killed_at_once() -> None:
    async with local() as here, started(here, "trap '' TERM; echo up; sleep 300", grace=0) as job:
        await job.output.saw(b"up")
        assert (await job.cancelled()).code == 128 + signal.SIGKILL


async def test_a_stopped_job_hears_sigterm() -> None:
    async with (
        local() as here,
        started(here, "trap 'exit 5' TERM; echo $$; kill -STOP $$; sleep 300 & wait") as job,
    ):
        (pid,) = await job.output.pids(1)
        with anyio.fail_after(5):
            while state(pid) != "T":
                await anyio.lowlevel.checkpoint()
        assert (await job.cancelled()).code == 5


async def test_the_whole_tree_is_gone_after_a_cancellation_those_that_fled_included() -> None:
    command = (
        f"{PYTHON} -c '{DAEMON.format(quiet=False)}';"
        "setsid sh -c 'echo $$; setsid sleep 300 & echo $!; wait' &"
        "sleep 300 & echo $!; echo up >&2; wait"
    )
    async with local() as here, started(here, command, grace=0.5) as job:
        await job.output.saw(b"up", LogSource.STDERR)
        pids = await job.output.pids(4)
        assert all(alive(pid) for pid in pids)
        await job.cancelled()
        assert not any(alive(pid) for pid in pids)
        assert marked(here.host_id) == []


async def test_who_fled_hears_sigterm_too(tmp_path: Path) -> None:
    for command in ("setsid {} & wait", "(setsid {} &); sleep 300"):  # with a parent, and without
        async with local() as here, started(here, command.format(_polite(tmp_path))) as job:
            await job.output.saw(b"up")
            began = time.monotonic()
            await job.cancelled()
            assert b"fled" in job.output.stdout
            assert time.monotonic() - began < 3


def _polite(folder: Path) -> str:
    """Return a command that says so when it is asked to end."""
    # No shell: between a fork of one and the exec that follows, its handler swallows a SIGTERM.
    program = folder / "polite.py"
    program.write_text(
        "import os, signal\n"
        "def end(*_):\n"
        "    os.write(1, b'fled'); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "os.write(1, b'up')\n"
        "signal.pause()\n"
    )
    return f"{PYTHON} {program}"


async def test_children_that_ignore_sigterm_are_killed_although_the_leader_obeys() -> None:
    command = "sh -c 'trap \"\" TERM; echo $$; sleep 300; sleep 300' & wait"
    async with local() as here, started(here, command, grace=0.3) as job:
        (pid,) = await job.output.pids(1)
        began = time.monotonic()
        end = await job.cancelled()
        assert end.code == 128 + signal.SIGTERM
        assert time.monotonic() - began > 0.29
        assert not alive(pid)


async def test_cancelling_while_a_grandchild_keeps_the_pipe_gives_the_leaders_exit() -> None:
    async with local() as here, started(here, "(echo $$; exec sleep 300) & exit 6") as job:
        await job.output.saw(b"\n")
        await job.output.called("started")
        end = await job.cancelled()
        assert end.code == 6
        assert marked(here.host_id) == []


async def test_cancelling_a_job_at_any_moment_of_a_short_life_leaves_nothing() -> None:
    async with local() as here:
        outcomes = set()
        descriptors = os.listdir("/proc/self/fd")
        for turn in range(60):
            output = Recorder()
            scope = anyio.CancelScope(deadline=anyio.current_time() + turn * 0.00005)
            with anyio.fail_after(5), scope:
                end = await here.session.execute(execution("exit 3"), output)
                outcomes.add(end.code)
            assert os.listdir("/proc/self/fd") == descriptors
        assert outcomes <= {3, 143}
        assert marked(here.host_id) == []


async def test_a_cancellation_before_the_call_starts_nothing() -> None:
    async with local() as here:
        output = Recorder()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await here.session.execute(execution("echo ran"), output)
        assert scope.cancelled_caught
        assert output.calls == []


async def test_a_start_that_the_guard_has_not_taken_yet_is_withdrawn() -> None:
    async with local() as here:
        descriptors = os.listdir("/proc/self/fd")
        os.kill(here.guard_pid, signal.SIGSTOP)
        outputs = [Recorder() for _ in range(40)]
        ended: list[Recorder] = []
        try:
            async with anyio.create_task_group() as tasks:

                async def one(output: Recorder) -> None:
                    await here.session.execute(execution(["echo", "x" * 12_000]), output)
                    ended.append(output)

                with anyio.CancelScope():
                    async with anyio.create_task_group() as jobs:
                        for output in outputs:
                            jobs.start_soon(one, output)
                        await anyio.wait_all_tasks_blocked()
                        jobs.cancel_scope.cancel()
                        tasks.start_soon(_continue, here.guard_pid)
        finally:
            os.kill(here.guard_pid, signal.SIGCONT)
        silent = [output for output in outputs if output.calls == []]
        assert 1 <= len(silent) == len(outputs) - len(ended)
        assert os.listdir("/proc/self/fd") == descriptors


async def _continue(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


async def test_a_cancelled_start_that_fails_lets_the_cancellation_through() -> None:
    async with local() as here:
        os.kill(here.guard_pid, signal.SIGSTOP)
        try:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:

                    async def one() -> None:
                        with pytest.raises(anyio.get_cancelled_exc_class()) as caught:
                            await here.session.execute(execution(["/no/such"]), Recorder())
                        raise caught.value

                    tasks.start_soon(one)
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
                    os.kill(here.guard_pid, signal.SIGCONT)
        finally:
            os.kill(here.guard_pid, signal.SIGCONT)
        with pytest.raises(StartFailedError):
            await here.session.execute(execution(["/no/such"]), Recorder())


async def test_terminating_ends_what_runs_and_is_idempotent() -> None:
    command = "setsid sleep 300 & echo $!; trap '' TERM; sleep 300"
    async with local() as here, started(here, command) as job:
        (pid,) = await job.output.pids(1)
        with watching(pid, here.guard_pid) as processes:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(here.session.terminate)
            for process in processes:
                await process.gone(0.1)
        await here.session.terminate()
        await job.done.wait()
        assert isinstance(job.error, WorkerLostError)
        with pytest.raises(NotStartedError, match="has ended"):
            await here.session.execute(execution(["true"]), Recorder())


async def test_a_provider_that_closes_ends_its_worker_even_if_nobody_serves_it() -> None:
    provider = LocalProvider()
    await provider.open(new_host())
    session = await provider.provision(WorkerId("w"))
    assert isinstance(session, LocalSession)
    descriptors = len(os.listdir("/proc/self/fd"))
    with watching(session.guard_pid) as (guard,):
        await provider.close()
        await guard.gone(0.1)
        assert len(os.listdir("/proc/self/fd")) < descriptors
    await provider.close()
    await session.run()


class Asked(guard.Guard):
    """A guard that cannot tell whose any process is."""

    def __init__(self) -> None:
        self.owners = {}
        self.unsure = {}

    def find_owner(self, pid: int) -> int:
        return guard.UNSURE


def test_what_ends_is_waited_for_longer_than_what_is_in_an_exec() -> None:
    """Its variables are not shown any more, and to give gigabytes back takes long."""
    asked = Asked()
    ended = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    try:
        assert [asked.owner(ended) for _ in range(20 * guard.UNSURE_LOOKS)][-1] == guard.UNSURE
        assert [asked.owner(ended) for _ in range(guard.EXITING_LOOKS)][-1] == guard.NOBODY
    finally:
        os.waitpid(ended, 0)
    assert [asked.owner(os.getpid()) for _ in range(guard.UNSURE_LOOKS)][-2:] == [
        guard.UNSURE,
        guard.NOBODY,
    ]
