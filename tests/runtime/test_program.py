"""What the program around it does: forks, threads, signals, an event loop that just ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

LIMIT = 20.0  # seconds for a program of a test

PRELUDE = """
    import asyncio, os, signal, sys, threading
    import anyio
    from hodei_core import *
    from hodei_core.backends.memory import MemoryProvider

    async def hang(execution, output):
        try:
            print("started", flush=True)
            await anyio.sleep_forever()
        finally:
            print("ended", flush=True)

    async def succeed(execution, output):
        return 0

    def was_interrupted(main, backend):
        try:
            anyio.run(main, backend=backend)
        except (KeyboardInterrupt, asyncio.CancelledError):
            return True  # the second is what anyio.run raises on Python 3.10
"""


def program(body: str) -> list[str]:
    """Return the command that runs a small program of ours."""
    return [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(body)]


def run(body: str, *, code: int = 0) -> str:
    """Run a small program; return what it printed."""
    done = subprocess.run(program(body), capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_forked_child_is_refused_and_does_nothing(backend: str) -> None:
    """The catalogue's G7."""
    printed = run(
        f"""
        async def main():
            async with Hodei(providers=[MemoryProvider(succeed)]) as hodei:
                job = await hodei.submit("x")
                await job.wait()
                reading, writing = os.pipe()
                child = os.fork()
                if not child:
                    try:
                        said = []
                        for call in (hodei.submit("y"), job.wait(), hodei.stats(), job.cancel()):
                            try:
                                call.send(None)
                            except ForkedError:
                                said.append("refused")
                            except BaseException as error:
                                said.append(repr(error))
                        os.write(writing, " ".join(said).encode())
                    finally:
                        os._exit(0)
                os.waitpid(child, 0)
                os.close(writing)
                print(os.read(reading, 1000).decode())
                assert (await hodei.run("z")).ok
        anyio.run(main, backend="{backend}")
        """
    )
    assert printed == "refused refused refused refused\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_runs_in_a_thread_that_ends(backend: str) -> None:
    run(
        f"""
        async def main():
            async with Hodei(providers=[MemoryProvider(succeed)]) as hodei:
                assert (await hodei.run("x")).ok
        for _ in range(3):
            thread = threading.Thread(target=lambda: anyio.run(main, backend="{backend}"))
            thread.start()
            thread.join()
        """
    )


def test_a_loop_that_ends_without_aclose_ends_the_program_in_order() -> None:
    """The catalogue's G5: `asyncio.run` cancels every task, and we end what runs."""
    printed = run(
        """
        import asyncio
        async def main():
            hodei = await Hodei(providers=[MemoryProvider(hang)]).open()
            job = await hodei.submit("x")
            while (await job.snapshot()).state is not JobState.RUNNING:
                await asyncio.sleep(0)
        asyncio.run(main())
        print("over")
        """
    )
    assert printed == "started\nended\nover\n"


def interrupt_when_started(body: str, *, times: int = 1) -> tuple[int, str]:
    """Run a program, send SIGINT once it has printed "started"; return its code and output."""
    with subprocess.Popen(
        program(body), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "started\n", line + process.stdout.read()
        for _ in range(times):
            os.kill(process.pid, signal.SIGINT)
        rest = process.stdout.read()
        return process.wait(LIMIT), rest


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_ends_what_runs_and_the_program(backend: str) -> None:
    """The catalogue's G2."""
    code, printed = interrupt_when_started(
        f"""
        async def main():
            async with Hodei(providers=[MemoryProvider(hang)]) as hodei:
                job = await hodei.submit("x")
                try:
                    await job.wait()
                finally:
                    main.job = job
        if was_interrupted(main, "{backend}"):
            result = anyio.run(main.job.wait)
            print("interrupted", result.state.name, result.reason.name)
        """
    )
    assert (code, printed) == (0, "ended\ninterrupted FAILED INTERRUPTED\n")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
def test_a_handler_that_ends_the_program_does(backend: str, error: str) -> None:
    printed = run(
        f"""
        async def handler(execution, output):
            if execution.spec.command == "end":
                raise {error}("enough")
            return await hang(execution, output)
        async def main():
            async with Hodei(providers=[MemoryProvider(handler, slots=2)]) as hodei:
                job = await hodei.submit("x")
                while (await job.snapshot()).state is not JobState.RUNNING:
                    await anyio.sleep(0)
                await hodei.submit("end")
                await anyio.sleep_forever()
        try:
            anyio.run(main, backend="{backend}")
        except {error} as caught:
            print(repr(caught))
        """
    )
    assert printed == f"started\nended\n{error}('enough')\n"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_at_random_moments_never_hangs_or_leaves_a_job(backend: str) -> None:
    """The catalogue's G2: SIGINT lands wherever the program happens to be."""
    for moment in range(15):
        with subprocess.Popen(
            program(
                f"""
                live = 0
                async def handler(execution, output):
                    global live
                    live += 1
                    try:
                        await anyio.sleep(0.0005)
                    finally:
                        live -= 1
                async def main():
                    async with Hodei(providers=[MemoryProvider(handler, slots=8)]) as hodei:
                        print("started", flush=True)
                        while True:
                            await hodei.submit_many(["x"] * 20)
                            await hodei.join()
                if was_interrupted(main, "{backend}"):
                    print("interrupted", live)
                """
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "started\n"
            for _ in range(moment * 3000):
                pass
            os.kill(process.pid, signal.SIGINT)
            printed, errors = process.communicate(timeout=LIMIT)
            assert printed == "interrupted 0\n", errors
            assert process.returncode == 0


IN_A_WAIT = (
    "frame.f_code is trio.lowlevel.wait_task_rescheduled.__code__"
    " and frame.f_back.f_code is trio.Event.wait.__code__"
)
LEAVING = "frame.f_code is Host.stop.__code__"
MADE = "Hodei(providers=[provider])"


@pytest.mark.parametrize(
    ("moment", "opening", "body"),
    [
        (IN_A_WAIT, MADE, "hodei.join()"),
        (IN_A_WAIT, MADE, "jobs[-1].wait()"),
        (IN_A_WAIT, MADE, "drain(jobs[-1].logs())"),
        (IN_A_WAIT, MADE, "watch(hodei)"),
        (IN_A_WAIT, f"interrupted({MADE})", "anyio.sleep(0)"),
        (IN_A_WAIT, MADE, "anyio.sleep(0)"),  # and then in leaving the block
        (LEAVING, MADE, "anyio.sleep(0)"),
        (IN_A_WAIT, MADE, "hodei.aclose()"),
    ],
)
def test_ctrl_c_at_the_worst_lines_under_trio(moment: str, opening: str, body: str) -> None:
    """trio's Event.wait forgets to take the waiter off its list, and trio fails later (G2)."""
    printed = run(
        f"""
        import gc
        import trio
        from hodei_core.runtime.host import Host
        async def handler(execution, output):
            await anyio.sleep(0.01)
        async def drain(entries):
            async for _ in entries:
                pass
        async def watch(hodei):
            async with hodei.events(JobStuck) as events:
                await drain(events)
        def interrupt(frame, event, arg):
            if ({moment}) and trio.lowlevel.current_task() is task:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        def interrupted(value):
            sys.settrace(interrupt)
            return value
        async def main():
            global task
            task = trio.lowlevel.current_task()
            provider = MemoryProvider(handler, slots=2)
            try:
                async with {opening} as hodei:
                    jobs = await hodei.submit_many(["x"] * 20)
                    try:
                        await interrupted({body})
                    except KeyboardInterrupt:
                        events = [each for each in gc.get_objects() if type(each) is trio.Event]
                        print("listed by", sum(task in each._tasks for each in events))
                        raise
            except KeyboardInterrupt:
                print("left in order")
                raise
        if was_interrupted(main, "trio"):
            print("interrupted")
        """
    )
    assert printed.removeprefix("listed by 0\n") == "left in order\ninterrupted\n"


def test_a_forked_child_cannot_close_what_its_parent_opened() -> None:
    printed = run(
        """
        import asyncio
        async def main():
            hodei = await Hodei(providers=[MemoryProvider(succeed)]).open()
            child = os.fork()
            if not child:
                said = []
                for call in (hodei.aclose(), hodei.open(), hodei.__aenter__()):
                    try:
                        call.send(None)
                    except ForkedError:
                        said.append("refused")
                os.write(1, " ".join(said).encode())
                os._exit(0)
            os.waitpid(child, 0)
            assert (await hodei.run("z")).ok
            await hodei.aclose()
        asyncio.run(main())
        """
    )
    assert printed == "refused refused refused"


def test_one_made_before_a_fork_and_anywhere_is_opened_by_the_child() -> None:
    run(
        """
        hodei = Hodei(providers=[MemoryProvider(succeed)])
        child = os.fork()
        async def main():
            async with hodei:
                assert (await hodei.run("x")).ok
        anyio.run(main)
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )


def test_another_event_loop_is_refused_by_name() -> None:
    """The catalogue's G5: two loops or threads use one instance."""
    printed = run(
        """
        import asyncio
        hodei = Hodei(providers=[MemoryProvider(succeed)])
        async def elsewhere():
            for call in (hodei.submit("x"), hodei.stats(), hodei.aclose(), hodei.list_jobs()):
                try:
                    await call
                except RuntimeError as error:
                    print(error)
        async def main():
            await hodei.open()
            assert (await hodei.run("x")).ok
            for backend in ("asyncio", "trio"):
                thread = threading.Thread(target=lambda: anyio.run(elsewhere, backend=backend))
                thread.start()
                thread.join()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        asyncio.run(elsewhere())
        loop.run_until_complete(hodei.aclose())
        loop.close()
        assert asyncio.run(hodei.list_jobs())
        """
    )
    words = "this Hodei was opened in another event loop; use it there, or open one here\n"
    assert printed == 12 * words
