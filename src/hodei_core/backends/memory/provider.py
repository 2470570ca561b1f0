"""Workers that run an async callable of the host program: for tests, and for work in process."""

from __future__ import annotations

import math
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TypeAlias

import anyio

from hodei_core.checks import MAX_SLOTS, whole_number
from hodei_core.errors import ProvisionError
from hodei_core.executions import Execution, Exit, Output
from hodei_core.frozendict import EMPTY
from hodei_core.ids import WorkerId
from hodei_core.logs import LogSource
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import (
    AttemptOutput,
    NotStartedError,
    ProviderHost,
    WorkerLostError,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.resources import Resources
from hodei_core.workers import Offer

Handler: TypeAlias = Callable[[Execution, Output], Awaitable["int | None"]]
"""Runs one job and returns its exit code, 0 to 255; None stands for 0."""

_EXIT_CODES = range(256)


class MemoryProvider(WorkerProvider):
    """Runs each job by awaiting `handler(execution, output)` on the host's event loop.

    The handler returns the exit code (None is 0) and prints by `await output.write(...)`,
    which waits while the log is full. An exception that it raises ends the job as FAILED with
    exit code 1, its traceback on the job's standard error. Cancelling the job cancels it.

    Workers are made when there is work for them, and ended when they have been idle.

    Args:
        handler: the async callable that runs a job.
        name: the provider's name.
        slots: how many jobs each worker runs at once.
        min_workers: how many workers are kept, whether there is work or not.
        max_workers: the most workers at one time.
        idle_timeout: seconds after which a worker beyond `min_workers` that is idle is ended;
            None: never.
        max_lifetime: seconds after which a worker takes no more jobs; None: no limit.
        max_jobs: how many jobs a worker takes in its life; None: no limit.
        labels: what `requires` of a job is matched with.
        resources: what each worker has; None: one CPU per slot, and memory without limit.

    Raises:
        TypeError, ValueError: an argument is not acceptable; the message names it.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        name: str = "memory",
        slots: int = 1,
        min_workers: int = 0,
        max_workers: int = 1,
        idle_timeout: float | timedelta | None = 60,
        max_lifetime: float | timedelta | None = None,
        max_jobs: int | None = None,
        labels: Mapping[str, str] = EMPTY,
        resources: Resources | None = None,
    ) -> None:
        _check_handler(handler)
        self._handler = handler
        self._policy = WorkerPolicy(
            min_workers=min_workers,
            max_workers=max_workers,
            idle_timeout=idle_timeout,
            max_lifetime=max_lifetime,
            max_jobs=max_jobs,
            lease=None,
        )
        slots = whole_number("slots", slots, least=1, most=MAX_SLOTS)
        self._offer = Offer(
            provider=name,
            slots=slots,
            resources=Resources(cpus=slots) if resources is None else resources,
            labels=labels,
        )
        self._sessions: dict[WorkerId, MemorySession] = {}
        self._open = False

    @property
    def offer(self) -> Offer:
        return self._offer

    @property
    def policy(self) -> WorkerPolicy:
        return self._policy

    async def open(self, host: ProviderHost) -> None:
        if self._open:
            msg = f"provider {self._offer.provider!r} belongs to another open Hodei"
            raise ProvisionError(msg, permanent=True)
        self._open = True

    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        session = MemorySession(self._handler, lambda: self._sessions.pop(worker_id, None))
        self._sessions[worker_id] = session
        return session

    async def discard(self, worker_id: WorkerId) -> None:
        session = self._sessions.get(worker_id)
        if session is not None:
            await session.terminate()

    async def close(self) -> None:
        for worker_id in list(self._sessions):
            await self.discard(worker_id)
        self._open = False


class MemorySession(WorkerSession):
    """The line to a worker that is nothing but the handler."""

    def __init__(self, handler: Handler, ended: Callable[[], object] = lambda: None) -> None:
        self._handler = handler
        self._ended = ended
        self._end = anyio.Event()

    async def run(self) -> None:
        await self._end.wait()

    async def heartbeat(self) -> None:
        if self._end.is_set():
            msg = "the worker has ended"
            raise WorkerLostError(msg)

    async def terminate(self) -> None:
        self._end.set()
        self._ended()

    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        if self._end.is_set():
            msg = "the worker has ended"
            raise NotStartedError(msg)
        written = _HandlerOutput(output)
        output.started()
        try:
            code = await self._handler(execution, written)
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                return _ENDED
            written.fail(traceback.format_exc())
            return Exit(code=1)
        except Exception:
            written.fail(traceback.format_exc())
            return Exit(code=1)
        finally:
            written.close()
        if code is None:
            return _SUCCESS
        if isinstance(code, bool) or code not in _EXIT_CODES:
            output.feed(LogSource.STDERR, _not_a_code(code))
            return Exit(code=1)
        return Exit(code=code)


_SUCCESS = Exit(code=0)
_ENDED = Exit(code=None)


def _check_handler(handler: object) -> None:
    if not callable(handler):
        msg = f"handler must be an async callable, not {handler!r}"
        raise TypeError(msg)


def _not_a_code(value: object) -> bytes:
    return f"the handler returned {value!r}, which is no exit code\n".encode(errors="replace")


class _HandlerOutput(Output):
    def __init__(self, output: AttemptOutput) -> None:
        self._output: AttemptOutput | None = output
        self._used = False

    async def write(self, data: bytes | str, source: LogSource = LogSource.STDOUT) -> None:
        output = self._output
        if output is None:
            msg = "the handler that this output belongs to has ended"
            raise RuntimeError(msg)
        if source is LogSource.SYSTEM:
            msg = "source must be STDOUT or STDERR: SYSTEM is the library's own"
            raise ValueError(msg)
        self._used = True
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)
        if not output.feed(source, raw):
            await output.ready()

    def fail(self, trace: str) -> None:
        """Print why the handler failed."""
        if self._output is not None:
            self._used = True
            self._output.finish(LogSource.STDERR)
            self._output.feed(LogSource.STDERR, trace.encode("utf-8", "replace"))

    def close(self) -> None:
        """Take no more; deliver unfinished lines."""
        output, self._output = self._output, None
        if output is not None and self._used:
            output.finish(LogSource.STDOUT)
            output.finish(LogSource.STDERR)
