"""The program under test, as a process of its own, and a look at what it leaves behind."""

from __future__ import annotations

import fcntl
import json
import re
import select
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

HODEI = (sys.executable, "-W", "error", "-m", "hodei_core")
TIMEOUT = 30.0
MARK = "CLI_TEST_MARK"

GRACEFUL = "trap 'echo bye; exit 0' TERM; echo ready; sleep 1000 & wait"
"""A job that ends at SIGTERM, and says so."""

STUBBORN = "trap '' TERM; setsid setsid sleep 1000 & echo ready; while :; do sleep 1000; done"
"""A job that ignores SIGTERM and has a child that fled."""


class Program:
    """One run of the program. Its job carries a mark by which all of its tree is found."""

    def __init__(self, *arguments: str, through: Sequence[str] = (), **settings: Any) -> None:
        self.mark = uuid.uuid4().hex
        words = arguments.index("run") + 1
        self.process = subprocess.Popen(
            [
                *through,
                *HODEI,
                *arguments[:words],
                "--env",
                f"{MARK}={self.mark}",
                *arguments[words:],
            ],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "preexec_fn": default_signals,
                **settings,
            },
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.process.wait(TIMEOUT)

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def stderr(self) -> IO[bytes]:
        assert self.process.stderr is not None
        return self.process.stderr

    def line(self) -> bytes:
        """Return the next line of its standard output."""
        return self.stdout.readline()

    def error_line(self) -> str:
        """Return the next line of its standard error."""
        return self.stderr.readline().decode()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for its end; return that, with what was not read before."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return Ended(self.process.returncode, out or b"", (err or b"").decode())

    def left(self) -> list[int]:
        """Return the processes of its job that are there."""
        return processes_with(MARK, self.mark)


class Ended:
    """How a run of the program ended."""

    def __init__(self, code: int, out: bytes, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"Ended({self.code}, {self.out[:500]!r}, {self.err!r})"

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What it printed, as one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def default_signals() -> None:
    """Undo what whoever runs the tests has set to be ignored, as `nohup` does."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run(*arguments: str, **settings: Any) -> Ended:
    """Run `hodei` with these arguments to its end."""
    given = {"stdin": subprocess.DEVNULL, **settings}
    if "input" in given:
        del given["stdin"]
    done = subprocess.run(
        [*HODEI, *arguments], capture_output=True, timeout=TIMEOUT, check=False, **given
    )
    return Ended(done.returncode, done.stdout, done.stderr.decode())


def processes_with(name: str, value: str) -> list[int]:
    """Return the processes that have a variable of this value in their environment."""
    found = []
    entry = f"{name}={value}".encode()
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                environment = (directory / "environ").read_bytes()
            except OSError:  # it has ended, or is somebody else's
                continue
            if entry in environment.split(b"\0"):
                found.append(int(directory.name))
    return found


def until(condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    """Return once a fact is so; fail if it is not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.005)


def waiting_bytes(stream: IO[bytes]) -> int:
    """Return how many bytes are in a pipe."""
    count = bytearray(4)
    fcntl.ioctl(stream.fileno(), termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def is_full(fd: int) -> bool:
    """Return whether a pipe takes no more, by its writing end."""
    return not select.select([], [fd], [], 0)[1]


JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
