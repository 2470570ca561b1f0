"""Hosts in processes of their own, as the tests of liveness see them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio

from tests.local.helpers import PYTHON, REPOSITORY, script_environment

_PROGRAM = str(REPOSITORY / "tests" / "sqlite" / "host_program.py")


class HostProgram:
    """A host that runs `host_program.py`, and the lines that it prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._text = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def seen(self) -> list[list[str]]:
        return [line.split() for line in self._text.decode().split("\n")[:-1]]

    async def line(self, *words: str, seconds: float = 20) -> list[str]:
        """Return the first line that begins with these words, once it is there."""
        with anyio.fail_after(seconds):
            while True:
                for line in self.seen():
                    if line[: len(words)] == list(words):
                        return line
                await anyio.wait_readable(self._fd)
                data = os.read(self._fd, 65536)
                assert data, f"it ended after {self._text.decode()!r}"
                self._text += data

    async def guard(self, word: str = "open") -> int:
        return int((await self.line(word))[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def program(
    path: Path, *arguments: str, prefix: Sequence[str] = ()
) -> AsyncIterator[HostProgram]:
    """Run a host until the block is left; it is open when the block is entered."""
    with subprocess.Popen(  # noqa: ASYNC220 - made and read without a wait
        [*prefix, PYTHON, _PROGRAM, str(path), *arguments],
        stdout=subprocess.PIPE,
        env=script_environment(),
        cwd=REPOSITORY,
    ) as process:
        host = HostProgram(process)
        try:
            await host.line("submitted")
            yield host
        finally:
            process.kill()


async def until(met: Callable[[], object], seconds: float = 20) -> None:
    """Return when something outside this process is so."""
    with anyio.fail_after(seconds):
        while not met():  # noqa: ASYNC110 - a fact of other processes
            await anyio.sleep(0.005)


def words(path: Path) -> list[str]:
    """Return what jobs have written to a file so far."""
    return path.read_text().split() if path.exists() else []


def stop_between_commits(pid: int, file: Path) -> None:
    """Stop a process while it does not hold the lock of a file: nobody else could write to it."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        _wait_until_stopped(pid)
        with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("begin immediate")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                return


def _wait_until_stopped(pid: int) -> None:
    tasks = Path(f"/proc/{pid}/task")
    while any(" T " not in (task / "stat").read_text() for task in tasks.iterdir()):
        time.sleep(0.001)
