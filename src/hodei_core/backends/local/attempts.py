"""The attempts of a session that are under way: asked for, followed, ended."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import anyio

from hodei_core.backends.local.line import Line, end_request, notices, start_request
from hodei_core.backends.local.pump import Pump
from hodei_core.backends.local.run import Run, Stream
from hodei_core.executions import Execution
from hodei_core.logs import LogSource
from hodei_core.ports.provider import (
    AttemptOutput,
    NotStartedError,
    StartFailedError,
    WorkerLostError,
)

_DRAIN_SECONDS = 1.0
"""How long pipes are read after the leader's exit while something keeps them open."""


class Attempts:
    """Every attempt between its start and the moment when nothing of it is left.

    Facts come in by `serve` (what the guard tells) and through the pump; `follow` and `end` wait
    for them. Most attempts are complete when their exit is served, and nobody waits further.
    """

    def __init__(self, line: Line, *, cwd: str, limit_memory: bool) -> None:
        self.pump: Pump = Pump(self._streams_ended)
        self.heard: anyio.Event = anyio.Event()
        """Set when the guard shows a sign of life that was asked for."""

        self._line = line
        self._cwd = cwd
        self._limit_memory = limit_memory
        self._runs: dict[int, Run] = {}
        self._last_number = 0

    def start(self, execution: Execution, output: AttemptOutput, stdin: int) -> Run:
        """Ask the guard to start an attempt; `stdin` is a descriptor to hand over, or -1.

        Raises:
            NotStartedError: the guard is gone, or descriptors or memory are short.
        """
        self._last_number += 1
        number = self._last_number
        ends: list[int] = []
        handed = [] if stdin < 0 else [stdin]
        try:
            for position in range(2):
                reading, writing = os.pipe2(os.O_CLOEXEC)
                ends.append(reading)
                handed.insert(position, writing)
                fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK)
            self._line.send(number, self._request(number, execution), handed)
        except BaseException as error:
            for fd in (*ends, *handed):
                os.close(fd)
            if isinstance(error, OSError):
                raise NotStartedError(f"the local worker could not start it: {error}") from error
            raise
        run = self._runs[number] = Run(number, execution.job_id, output)
        run.streams = [
            Stream(run, ends[0], LogSource.STDOUT),
            Stream(run, ends[1], LogSource.STDERR),
        ]
        return run

    async def follow(self, run: Run) -> None:
        """Return when an attempt is over by itself, and nothing that it has left lives on."""
        await self._until(run, _has_exited)
        if run.over:
            return
        with anyio.move_on_after(_DRAIN_SECONDS):
            await self._until(run, _is_at_end)
        if run.left and not run.over:
            self._line.insist(run.number, end_request(run.number, 0))
            await self._until(run, _is_gone)
        self._complete(run)

    async def end(self, run: Run, grace: float) -> None:
        """End an attempt, with `grace` seconds to do it itself; return when nothing is left."""
        if not run.over and self._line.withdraw(run.number):
            self._complete(run)
        if not run.over:
            self._line.insist(run.number, end_request(run.number, max(grace, 0.0)))
            await self._until(run, _is_gone)
            self._complete(run)

    def serve(self, data: bytes) -> None:
        """Take in what the guard tells."""
        for notice in notices(data):
            run = self._runs.get(int(notice[1]))
            if run is not None:
                self._serve(run, notice)
            elif notice[0] == b"pong":
                self.heard.set()

    def known(self) -> tuple[frozenset[str], frozenset[int]]:
        """Return the ids of the jobs under way, and the pids of the leaders that are known."""
        runs = self._runs.values()
        leaders = frozenset(run.leader for run in runs if run.leader and run.exit is None)
        return frozenset(run.job_id for run in runs), leaders

    def lose(self, message: str) -> None:
        """End every attempt here: the worker is gone."""
        for run in list(self._runs.values()):
            self._complete(run, WorkerLostError(message))

    def _request(self, number: int, execution: Execution) -> bytes:
        spec = execution.spec
        cwd = "" if spec.cwd is None else os.path.join(self._cwd, spec.cwd)
        return start_request(
            number, execution, cwd, spec.resources.memory if self._limit_memory else None
        )

    async def _until(self, run: Run, condition: Callable[[Run], bool]) -> None:
        """Wait for a fact about an attempt, or its end; room in its buffer is seen to."""
        while not run.over and not condition(run):
            if run.paused:
                with anyio.CancelScope() as run.relief:
                    await run.output.ready()
                    self.pump.resume(run)
                run.relief = None
            else:
                await run.wake.wait()
            if run.wake.is_set():
                run.wake = anyio.Event()

    def _serve(self, run: Run, notice: list[bytes]) -> None:
        kind = notice[0]
        if kind == b"exited":
            run.tell_started(float(notice[3]))
            run.set_exit(int(notice[2]), float(notice[4]), int(notice[5]) * 1024)
            run.left = notice[6] == b"1"
            self.pump.read_now(run)
            if not run.over:
                self.pump.add(run)
                run.notify()
        elif kind == b"started":
            run.leader = int(notice[2])
            run.tell_started(float(notice[3]))
            self.pump.add(run)
        elif kind == b"gone":
            run.gone = True
            run.notify()
        else:
            text = notice[3].decode("utf-8", "replace")
            refused = notice[2] == b"refused"
            self._complete(run, StartFailedError(text) if refused else NotStartedError(text))

    def _streams_ended(self, run: Run) -> None:
        if run.exit is None or run.over:
            return
        if run.left:
            run.notify()
        else:
            self._complete(run)

    def _complete(self, run: Run, error: Exception | None = None) -> None:
        """Take what the pipes of an attempt hold, and end it here."""
        if not run.over:
            del self._runs[run.number]
            run.over = True  # before the pipes' end completes it again
            self.pump.drain(run)
            run.finish(error)


def _has_exited(run: Run) -> bool:
    return run.exit is not None


def _is_at_end(run: Run) -> bool:
    return not run.streams


def _is_gone(run: Run) -> bool:
    return run.gone
