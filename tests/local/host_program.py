"""A host in a process of its own, for tests that kill it.

Run as `python host_program.py KIND LOOP COMMAND...`. It prints a line "guard PID", the output of
its jobs as it comes, and "exit CODE" for each.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial

import anyio

from hodei_core.logs import LogSource
from tests.local.helpers import Local, Recorder, execution, local


class Printer(Recorder):
    def feed(self, source: LogSource, data: bytes) -> bool:
        os.write(1, data)
        return True


async def main(jobs: list[str], *, fork: bool = False) -> None:
    async with local() as here:
        os.write(1, b"guard %d\n" % here.guard_pid)
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(one, here, job)
            await anyio.wait_all_tasks_blocked()
            if fork:
                fork_with_everything()


async def one(here: Local, job: str) -> None:
    end = await here.session.execute(execution(job), Printer())
    os.write(1, b"exit %d\n" % (-1 if end.code is None else end.code))


def fork_with_everything() -> None:
    """Fork a child that holds a copy of every descriptor, for as long as it is let live."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    os.write(1, b"fork %d\n" % pid)


def reap_all() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            threading.Event().wait(0.001)


if __name__ == "__main__":
    kind, backend, *jobs = sys.argv[1:]
    if kind == "plain":
        anyio.run(main, jobs, backend=backend)
    elif kind == "forking":
        anyio.run(partial(main, fork=True), jobs, backend=backend)
    elif kind == "ignoring":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        anyio.run(main, jobs, backend=backend)
    elif kind == "reaping":
        threading.Thread(target=reap_all, daemon=True).start()
        anyio.run(main, jobs, backend=backend)
    elif kind == "threaded":
        thread = threading.Thread(target=anyio.run, args=(main, jobs), kwargs={"backend": backend})
        thread.start()
        thread.join()
