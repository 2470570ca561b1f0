"""Whatever the host program does, what is recorded is right and nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import anyio
import pytest

from hodei_core import Hodei

LIMIT = 30.0
PRELUDE = """
    import asyncio, os, signal, sys, threading
    import anyio
    from hodei_core import *

    async def work():
        async with Hodei() as hodei:
            for command, code in (("exit 7", 7), (["false"], 1), ("kill -9 $$", 137)):
                result = await hodei.run(command)
                assert result.exit_code == code, result
            print((await hodei.run("echo right")).stdout, end="", flush=True)
"""


def host(body: str, backend: str) -> str:
    """Run a host program to its end; return what it printed."""
    program = textwrap.dedent(PRELUDE) + f"BACKEND = {backend!r}\n" + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def processes_with(mark: str) -> list[int]:
    """Return the processes that were started with a text in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in environment:
                found.append(int(name))
    return found


both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@both
def test_a_host_that_ignores_sigchld(backend: str) -> None:
    body = "signal.signal(signal.SIGCHLD, signal.SIG_IGN); anyio.run(work, backend=BACKEND)"
    assert host(body, backend) == "right\n"


@both
def test_a_host_that_reaps_all_children(backend: str) -> None:
    body = """
        def reap():
            while True:
                try:
                    os.waitpid(-1, 0)
                except ChildProcessError:
                    pass
        threading.Thread(target=reap, daemon=True).start()
        anyio.run(work, backend=BACKEND)
    """
    assert host(body, backend) == "right\n"


@both
def test_a_host_whose_thread_ends_while_another_goes_on(backend: str) -> None:
    body = """
        def run():
            anyio.run(work, backend=BACKEND)
        for _ in range(2):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    """
    assert host(body, backend) == "right\nright\n"


@both
def test_a_job_outlives_the_thread_that_did_not_start_it(backend: str) -> None:
    """A parent-death signal would end it: that one follows threads, not processes."""
    body = """
        async def main():
            async with Hodei() as hodei:
                job = await hodei.submit("sleep 0.4; echo lived")
                thread = threading.Thread(target=lambda: None)
                thread.start()
                thread.join()
                print((await job.wait()).stdout, end="")
        anyio.run(main, backend=BACKEND)
    """
    assert host(body, backend) == "lived\n"


@both
def test_a_host_that_forks(backend: str) -> None:
    body = """
        async def main():
            children = []
            async with Hodei() as hodei:
                jobs = [await hodei.submit("sleep 0.2; exit 7") for _ in range(3)]
                for _ in range(3):
                    child = os.fork()
                    if not child:
                        signal.pause()
                    children.append(child)
                for job in jobs:
                    assert (await job.wait()).exit_code == 7
                print((await hodei.run("echo right")).stdout, end="", flush=True)
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        anyio.run(main, backend=BACKEND)
    """
    assert host(body, backend) == "right\n"


def test_a_host_that_closed_its_stdio() -> None:
    body = """
        async def main():
            async with Hodei() as hodei:
                result = await hodei.run("cat; echo right", stdin=b"in ")
                assert result.stdout == "in right\\n", result
                assert (await hodei.run("ls -l /proc/self/fd | wc -l")).ok
        out = os.dup(1)
        for fd in (0, 1, 2):
            os.close(fd)
        anyio.run(main, backend=BACKEND)
        os.write(out, b"right\\n")
    """
    assert host(body, "asyncio") == "right\n"


@both
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "with a fork that lives on"])
def test_a_host_that_is_killed_leaves_nothing(backend: str, forks: bool) -> None:
    """The catalogue's A5: four jobs with children that called setsid twice, gone within 1 s."""
    mark = f"killed-host-{os.getpid()}-{backend}-{forks}"
    body = f"""
        async def main():
            async with Hodei(providers=[__import__("hodei_core.backends.local",
                    fromlist=["x"]).LocalProvider(slots=4)]) as hodei:
                jobs = [await hodei.submit(
                    "trap '' TERM; setsid sh -c 'setsid sleep 300 & sleep 300' & sleep 300 & "
                    "echo up; wait", env={{"MARK": "{mark}"}}) for _ in range(4)]
                for job in jobs:
                    async for entry in job.logs():
                        break
                if {forks}:
                    if not os.fork():
                        os.close(1)
                        signal.pause()
                print("up", flush=True)
                await anyio.sleep_forever()
        anyio.run(main, backend=BACKEND)
    """
    program = textwrap.dedent(PRELUDE) + f"BACKEND = {backend!r}\n" + textwrap.dedent(body)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        fork = [
            int(pid)
            for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if b"guard.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert len(fork) == forks
        deadline = time.monotonic() + LIMIT
        while len(processes_with(f"MARK={mark}")) < 16:  # those who flee are on their way
            assert time.monotonic() < deadline
        process.kill()
        killed = time.monotonic()
        process.wait(LIMIT)
        while processes_with(f"MARK={mark}"):
            assert time.monotonic() - killed < 1
        for pid in fork:
            os.kill(pid, signal.SIGKILL)


@both
def test_a_loop_that_just_ends_takes_its_jobs_along(backend: str) -> None:
    """The catalogue's G5: `asyncio.run` without `aclose`; trio has no such way."""
    if backend == "trio":
        body = "anyio.run(work, backend=BACKEND)"
        assert host(body, backend) == "right\n"
        return
    mark = f"loop-ended-{os.getpid()}"
    body = f"""
        import asyncio
        async def main():
            hodei = await Hodei().open()
            job = await hodei.submit("echo up; exec sleep 300", env={{"MARK": "{mark}"}})
            async for entry in job.logs():
                break
            print("right", flush=True)
        asyncio.run(main())
    """
    began = time.monotonic()
    assert host(body, backend) == "right\n"
    assert time.monotonic() - began < 5
    assert processes_with(f"MARK={mark}") == []


@pytest.mark.parametrize("backend", ["asyncio", "asyncio.run", "trio"])
@pytest.mark.parametrize("command", ["echo up; exec sleep 300", "trap '' TERM; echo up; sleep 300"])
def test_ctrl_c_ends_every_process_and_the_program(backend: str, command: str) -> None:
    mark = f"ctrl-c-{os.getpid()}-{backend}"
    body = f"""
        async def main():
            async with Hodei() as hodei:
                job = await hodei.submit({command!r}, env={{"MARK": "{mark}"}}, grace=0.2)
                async for entry in job.logs():
                    print(entry.text, flush=True)
        try:
            if BACKEND == "asyncio.run":
                asyncio.run(main())
            else:
                anyio.run(main, backend=BACKEND)
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("interrupted")  # the second is what anyio.run raises on Python 3.10
    """
    program = textwrap.dedent(PRELUDE) + f"BACKEND = {backend!r}\n" + textwrap.dedent(body)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=LIMIT)
        assert printed == "interrupted\n", errors
        assert process.returncode == 0
    assert processes_with(f"MARK={mark}") == []


def _counts() -> dict[str, int]:
    gc.collect()
    children = sum(
        len(Path(f"/proc/self/task/{task}/children").read_text().split())
        for task in os.listdir("/proc/self/task")
    )
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "processes": children,
    }


@pytest.mark.slow
async def test_opening_and_closing_200_times_leaves_everything_as_it_was() -> None:
    """The catalogue's G9."""
    after_five: dict[str, int] = {}
    tasks_after_five = 0
    with anyio.fail_after(100):
        for round_ in range(200):
            async with Hodei() as hodei:
                job = await hodei.submit("echo x; echo y >&2", stdin=b"z")
                assert [entry.text async for entry in job.logs()]
                if round_ % 10 == 0:
                    hanging = await hodei.submit("sleep 300", grace=0)
                    await hanging.cancel()
            if round_ == 4:
                after_five = _counts()
                tasks_after_five = len(anyio.get_running_tasks())
    # Fewer are no leak: threads that tests before this one used end when they have idled.
    now = _counts()
    assert {what: count for what, count in now.items() if count > after_five[what]} == {}
    assert len(anyio.get_running_tasks()) <= tasks_after_five


async def test_closing_right_after_the_opening_never_hangs() -> None:
    """The guard may be gone before the task that serves its worker has had a turn."""
    with anyio.fail_after(LIMIT):
        for _ in range(30):
            async with Hodei():
                pass
