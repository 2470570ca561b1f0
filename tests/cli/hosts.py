"""`hodei host` as a process of its own, and what is asked of its store from others."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import uuid
from pathlib import Path
from typing import Any

from tests.cli.helpers import HODEI, JOB_ID, TIMEOUT, Ended, default_signals, run, until


class HostProgram:
    """A running `hodei host`."""

    def __init__(self, store: Path, *options: str) -> None:
        self.store = store
        self._errors = store.with_name(f"host-{uuid.uuid4().hex}")
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*HODEI, "host", "--store", str(store), *options],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                preexec_fn=default_signals,  # noqa: PLW1509 - it only sets signals
            )

    def __enter__(self) -> HostProgram:
        self.wait_for("dispatching from")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)

    @property
    def said(self) -> list[str]:
        """What it has said, line by line."""
        return self._errors.read_text().splitlines()

    def says(self, text: str) -> bool:
        """Return whether it has said this."""
        return any(text in line for line in self.said)

    def wait_for(self, text: str) -> None:
        """Return once it has said this."""
        until(lambda: self.says(text) or self.process.poll() is not None)
        assert self.says(text), self.said

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; return the exit code."""
        return self.process.wait(TIMEOUT)


def detached(store: Path, *arguments: str) -> str:
    """Leave a job in a store; return its id."""
    ended = run("run", "--store", str(store), "--detach", *arguments)
    assert ended.code == 0, ended
    job_id = ended.out.decode().strip()
    assert JOB_ID.fullmatch(job_id)
    return job_id


def job(store: Path, job_id: str) -> dict[str, Any]:
    """Return a job as the program shows it."""
    ended = run("job", "get", "--store", str(store), "--format", "json", job_id)
    assert ended.code == 0, ended
    return ended.objects[0]


def becomes(store: Path, job_id: str, state: str) -> None:
    """Return once a job is in a state."""
    until(lambda: bool(job(store, job_id)["state"] == state))


def in_terminal(columns: int, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run the program in a terminal; return its exit code, and what is shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*HODEI, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm", **variables},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # nobody has the other end any more
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return process.wait(TIMEOUT), shown.decode().replace("\r\n", "\n")


def listed(ended: Ended) -> list[str]:
    """Return the names of the jobs that a list in JSON shows."""
    assert ended.code == 0, ended
    return [fields["name"] for fields in ended.objects]
