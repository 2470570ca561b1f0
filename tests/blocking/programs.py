"""Small programs that use the blocking twin, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.helpers import default_signals, processes_with, until

LIMIT = 40.0  # seconds for a program of a test
MARK = "XDG_BLOCKING_TEST_MARK"  # jobs get variables of this name as their host has them

PRELUDE = """
    import atexit, os, signal, sys, threading, time
    import anyio
    from hodei_core import *
    from hodei_core.backends.memory import MemoryProvider
    from hodei_core.blocking import Hodei, JobHandle

    async def hang(execution, output):
        await output.write("begun\\n")
        try:
            await anyio.sleep_forever()
        finally:
            print("ended", flush=True)

    async def succeed(execution, output):
        return 0

    def memory(handler=hang, **settings):
        return Hodei(providers=[MemoryProvider(handler, slots=4)], **settings)

    def begun(job):
        for _ in job.logs():
            return job

    def say(*words):
        print(*words, flush=True)

    def main_waits_in(*names):
        frame, found = sys._current_frames()[threading.main_thread().ident], []
        if not frame.f_code.co_filename.endswith("loop_thread.py"):
            return False
        while frame is not None:
            found.append(frame.f_code.co_name)
            frame = frame.f_back
        return found[0] == "wait" and set(names) <= set(found)

    def once(*names, also=lambda: True, then=None):
        # says so once the main thread waits in such functions, and something else is so too
        def look():
            while not (main_waits_in(*names) and also()):
                time.sleep(0.001)
            say("now")
            if then is not None:
                once(then)
        looking.append(threading.Thread(target=look, daemon=True))
        looking[-1].start()

    looking = []

    def threads():
        # how many there are, once those have ended that looked for the main thread
        for thread in looking:
            thread.join()
        return threading.active_count()
"""


class Program:
    """One run of a small program; its jobs and their children carry a mark."""

    def __init__(self, body: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                textwrap.dedent(PRELUDE) + textwrap.dedent(body),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: self.mark},
            preexec_fn=default_signals,  # noqa: PLW1509 - it only sets signals
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> str:
        """Return what else it printed; hold that it ended well and left nothing running."""
        printed, errors = self.process.communicate()
        assert self.process.returncode == 0, errors
        assert errors == ""
        until(lambda: not processes_with(MARK, self.mark))  # the guard ends after the program
        return printed


@contextmanager
def program(body: str) -> Iterator[Program]:
    running = Program(body)
    limit = threading.Timer(LIMIT, running.process.kill)
    limit.start()
    try:
        yield running
    finally:
        limit.cancel()
        limit.join()
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


def interrupted(body: str, *, times: int = 1) -> str:
    """Run a program, send SIGINT each time that it says "now"; return what else it printed."""
    with program(body) as running:
        for _ in range(times):
            line = running.line()
            assert line == "now", line + str(running.process.communicate())
            running.interrupt()
        return running.end()


def run(body: str) -> str:
    """Run a small program to its end; return what it printed."""
    with program(body) as running:
        return running.end()
