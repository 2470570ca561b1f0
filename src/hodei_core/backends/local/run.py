"""What the host knows of one attempt while it is under way."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import anyio

from hodei_core.executions import Exit
from hodei_core.jobs import Usage
from hodei_core.logs import LogSource
from hodei_core.ports.provider import AttemptOutput


class Stream:
    """The reading end of one of an attempt's pipes."""

    __slots__ = ("fd", "run", "source")

    def __init__(self, run: Run, fd: int, source: LogSource) -> None:
        self.run: Run = run
        self.fd: int = fd
        self.source: LogSource = source


class Run:
    """One attempt: told by the guard's notices and its pipes, awaited by `execute`."""

    __slots__ = (
        "error",
        "exit",
        "gone",
        "job_id",
        "leader",
        "left",
        "number",
        "output",
        "over",
        "paused",
        "pumped",
        "relief",
        "started",
        "streams",
        "wake",
    )

    def __init__(self, number: int, job_id: str, output: AttemptOutput) -> None:
        self.number: int = number
        self.job_id: str = job_id
        self.output: AttemptOutput = output
        self.streams: list[Stream] = []  # that are not at their end
        self.leader: int = 0  # the pid, once it was told
        self.started: bool = False
        self.exit: Exit | None = None
        self.left: bool = False  # whether something of the tree was there when the leader exited
        self.gone: bool = False  # whether the guard has ended all of the tree
        self.over: bool = False  # whether there is nothing more to come
        self.error: Exception | None = None
        self.pumped: bool = False  # whether the pump reads its pipes
        self.paused: bool = False  # whether the buffer is full and the pipes are left to fill
        self.relief: anyio.CancelScope | None = None  # around the wait for room in the buffer
        self.wake: anyio.Event = anyio.Event()

    def tell_started(self, at: float | None = None) -> None:
        """Tell that it runs, since an instant of CLOCK_MONOTONIC, which both processes share."""
        if not self.started:
            self.started = True
            self.output.started(0.0 if at is None else max(time.monotonic() - at, 0.0))

    def set_exit(self, status: int, cpu_seconds: float, max_rss_bytes: int) -> None:
        """Note how the leader ended, by its wait status."""
        code = os.waitstatus_to_exitcode(status)
        self.exit = Exit(
            code=code if code >= 0 else 128 - code,
            usage=Usage(cpu=timedelta(seconds=cpu_seconds), max_rss_bytes=max_rss_bytes),
        )

    def finish(self, error: Exception | None = None) -> None:
        """Note that there is nothing more to come."""
        self.over = True
        self.error = error
        if self.started:
            self.output.finish(LogSource.STDOUT)
            self.output.finish(LogSource.STDERR)
        self.notify()

    def notify(self) -> None:
        """Make `execute` look again."""
        self.wake.set()
        if self.relief is not None:
            self.relief.cancel()
