"""The line to a scripted worker."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

import anyio

from hodei_core.compat import override
from hodei_core.executions import Execution, Exit
from hodei_core.logs import LogSource
from hodei_core.ports import AttemptOutput, WorkerLostError, WorkerSession
from hodei_core.testing.acts import Act
from hodei_core.testing.outside import LiveExecution, Outside, ScriptedWorker

_CHUNK = 64 * 1024
_SIGTERM, _SIGKILL = 128 + 15, 128 + 9


class ScriptedSession(WorkerSession):
    """Plays what its worker is given.

    A worker that falls silent goes on; what it runs ends with the line.

    Args:
        worker: the worker.
        outside: where what happens to it is noted.
        act_of: returns what a job does, or raises what keeps it from starting.
    """

    def __init__(
        self, worker: ScriptedWorker, outside: Outside, act_of: Callable[[Execution], Act]
    ) -> None:
        self._worker = worker
        self._outside = outside
        self._clock = outside.clock
        self._act_of = act_of
        self._heartbeats = 0
        self._cut = anyio.Event()
        self._loss: BaseException | None = None
        self._scopes: list[anyio.CancelScope] = []

    def lose(self, why: str) -> None:
        """Have the worker be gone."""
        self._loss = self._worker.making.loss or WorkerLostError(why)
        self._outside.gone(self._worker, "lost")

    def cut(self) -> None:
        """Have the line end, and every attempt on it."""
        self._cut.set()
        for scope in list(self._scopes):
            scope.cancel()

    @override
    async def run(self) -> None:
        making = self._worker.making
        try:
            async with anyio.create_task_group() as tasks:
                if making.lost_after is not None:
                    tasks.start_soon(self._fall, making.lost_after)
                if making.silent_after is not None:
                    tasks.start_soon(self._fall_silent, making.silent_after)
                await self._cut.wait()
                tasks.cancel_scope.cancel()
        finally:
            self.cut()
        if self._loss is not None:
            raise self._loss

    async def _fall(self, after: timedelta) -> None:
        await self._clock.sleep(after.total_seconds())
        self.lose("it fell")

    async def _fall_silent(self, after: timedelta) -> None:
        await self._clock.sleep(after.total_seconds())
        self._worker.silent = True

    @override
    async def heartbeat(self) -> None:
        await self._clock.sleep(self._worker.making.heartbeat_takes.total_seconds())
        if self._worker.silent:
            await self._cut.wait()
        self._check()
        self._heartbeats += 1
        if self._heartbeats <= self._worker.making.heartbeat_failures:
            raise self._worker.making.heartbeat_error or OSError("its status is unknown")

    @override
    async def terminate(self) -> None:
        await self._outside.end(self._worker)

    def _check(self) -> None:
        if self._cut.is_set():
            raise self._lost()

    def _lost(self) -> WorkerLostError:
        return WorkerLostError(str(self._loss or "the worker is gone"))

    @override
    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        self._check()
        act = self._act_of(execution)
        live = LiveExecution(execution.job_id, execution.attempt, self._worker.id)
        with anyio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                await self._clock.sleep(act.start_delay.total_seconds())
                await self._hear()
                self._outside.begin(live)
                output.started()
                return Exit(code=await self._played(act, live, output))
            finally:
                self._scopes.remove(scope)
                self._outside.stop(live)
        raise self._lost()

    async def _played(self, act: Act, live: LiveExecution, output: AttemptOutput) -> int:
        """Play an attempt to its end, or end it when it is cancelled; return its exit code."""
        try:
            await self._play(act, output)
            code = 1 if live.attempt <= act.fails else act.exit_code
        except anyio.get_cancelled_exc_class():
            if self._cut.is_set() or anyio.current_effective_deadline() != -math.inf:
                raise
            code = await self._end(act, output)
        for source, printed in ((LogSource.STDOUT, act.prints), (LogSource.STDERR, act.warns)):
            if printed:
                output.finish(source)
        return code

    async def _play(self, act: Act, output: AttemptOutput) -> None:
        begun = self._clock.monotonic()
        takes = act.takes.total_seconds()
        pieces = [
            (takes * index / len(printed), source, data)
            for source, printed in ((LogSource.STDOUT, act.prints), (LogSource.STDERR, act.warns))
            for index, data in enumerate(printed)
        ]
        for at, source, data in sorted(pieces, key=lambda piece: piece[0]):
            await self._until(begun + at)
            await _print(output, source, data)
        await self._until(begun + takes)
        if not act.ends:
            await anyio.sleep_forever()
        if act.loses_worker:
            self.lose("it fell under its job")
            await anyio.sleep_forever()
        if act.raises is not None:
            raise act.raises

    async def _until(self, at: float) -> None:
        left = at - self._clock.monotonic()
        if left > 0:
            await self._clock.sleep(left)
        await self._hear()

    async def _hear(self) -> None:
        """Return if anything can be heard of the worker; else wait for its end."""
        if self._worker.silent:
            await anyio.sleep_forever()

    async def _end(self, act: Act, output: AttemptOutput) -> int:
        """End an attempt that was cancelled; return how it exited."""
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            try:
                await self._hear()
                if act.ignores_end:
                    await self._clock.sleep(output.grace)
                    return _SIGKILL
            finally:
                self._scopes.remove(scope)
            return _SIGTERM
        raise self._lost()


async def _print(output: AttemptOutput, source: LogSource, data: bytes) -> None:
    for start in range(0, len(data), _CHUNK):
        if not output.feed(source, data[start : start + _CHUNK]):
            await output.ready()
