"""The line to the local machine as a worker."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

import anyio
import anyio.lowlevel
import anyio.to_thread

from hodei_core.backends.local.attempts import Attempts
from hodei_core.backends.local.line import PING, Line, base_request, file_of, lease_request
from hodei_core.backends.local.process import GuardProcess
from hodei_core.backends.local.readiness import serve_readable
from hodei_core.backends.local.sweep import Lost, end_jobs, start_time
from hodei_core.executions import Execution, Exit
from hodei_core.ports.provider import (
    AttemptOutput,
    NotStartedError,
    WorkerLostError,
    WorkerSession,
)

_END_SECONDS = 10.0
"""How long a guard may take to kill all that runs, before that is done without it."""

_SMALL_INPUT_BYTES = 256 * 1024
"""More is copied in a thread: 16 MiB would hold the event loop for several milliseconds."""


class LocalSession(WorkerSession):
    """Runs attempts through one guard.

    `execute` asks the guard for a start and waits; all reading happens in `run`, in one place,
    without a task, a cancel scope or a stream for each attempt.

    The CPU time and memory in an exit's usage are those of the leader and the children it
    waited for. The memory is never below the guard's own, about 12 MiB: a process starts with
    the high-water mark of the one that starts it.
    """

    def __init__(
        self,
        guard: GuardProcess,
        *,
        host_id: str,
        cwd: str,
        env: Mapping[str, str],
        limit_memory: bool = False,
    ) -> None:
        self._guard = guard
        self._guard_since = start_time(guard.pid)
        self._host_id = host_id
        self._line = Line(guard.line, self._watch_writable)
        self._attempts = Attempts(self._line, cwd=cwd, limit_memory=limit_memory)
        self._pump = self._attempts.pump
        self._pump.watch(guard.line.fileno())
        # A fork may hold the guard's end of the socket: then only the pidfd tells of its death.
        self._pump.watch(guard.pidfd)
        self._lease: float | None = None
        self._guard_gone = False
        self._terminating = False
        self._closed = False
        self._serving = False
        self._served = anyio.Event()
        self._ending = False
        self._ended = anyio.Event()
        self._line.send(0, base_request(cwd, host_id, env), [])

    @property
    def guard_pid(self) -> int:
        """The process id of the guard."""
        return self._guard.pid

    @property
    def ended(self) -> bool:
        """Whether the worker is gone, and everything that it held with it."""
        return self._closed and self._guard.closed

    def hold_until(self, until: float | None) -> None:
        """Have the guard end all at an instant of CLOCK_BOOTTIME; None: never."""
        if not self._closed and until != self._lease:
            self._lease = until
            self._line.insist(0, lease_request(until))

    async def run(self) -> None:
        self._serving = True
        try:
            if not self._closed:
                await serve_readable(self._pump.fileno(), self._turn)
            if not self._terminating:
                await self._lose()
        finally:
            self._close()
            self._served.set()

    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        await anyio.lowlevel.checkpoint_if_cancelled()
        data = execution.spec.stdin
        stdin = -1 if data is None else await _input_file(data)
        if self._closed or self._guard_gone or self._terminating:
            if stdin >= 0:
                os.close(stdin)
            raise NotStartedError("the local worker has ended")
        run = self._attempts.start(execution, output, stdin)
        try:
            await run.wake.wait()
            if not run.over:
                await self._attempts.follow(run)
        except BaseException as interruption:
            with anyio.CancelScope(shield=True):
                await self._attempts.end(run, output.grace)
            if isinstance(run.error, WorkerLostError):
                raise run.error from None
            if run.exit is None or not isinstance(interruption, anyio.get_cancelled_exc_class()):
                raise
        if run.exit is None or run.error is not None:
            raise run.error or WorkerLostError("the attempt ended without an exit")
        return run.exit

    async def heartbeat(self) -> None:
        self._attempts.heard = heard = anyio.Event()
        self._line.insist(0, PING)
        await heard.wait()

    async def terminate(self) -> None:
        self._terminating = True
        with anyio.CancelScope(shield=True):
            await self._end_guard()
            if self._serving:
                await self._served.wait()  # the pidfd, open until then, tells `run`
            self._close()
            self._guard.close()

    def _turn(self) -> bool:
        """Serve what is there, within bounds; False once the guard is gone."""
        for fd, events in self._pump.turn():
            if fd == self._guard.pidfd:
                self._guard_gone = True
                continue
            if events & select.EPOLLOUT:
                self._flush()
            if events & ~select.EPOLLOUT:
                self._receive()
        while self._guard_gone and self._receive():
            pass  # what it told before its end
        return not self._guard_gone

    def _flush(self) -> None:
        try:
            self._line.flush()
        except OSError:
            self._guard_gone = True

    def _receive(self) -> bool:
        """Serve a datagram of notices; whether there was one."""
        data = self._line.receive()
        if data:
            self._attempts.serve(data)
        elif data is not None:
            self._guard_gone = True
        return bool(data)

    def _watch_writable(self, on: bool) -> None:
        self._pump.watch_writable(self._guard.line.fileno(), on)

    async def _lose(self) -> None:
        """End what a dead guard has left, and tell all.

        Raises:
            WorkerLostError: always.
        """
        with anyio.CancelScope(shield=True):
            await self._end_guard()
        message = f"the guard of the local worker was lost: {self._guard.describe_end()}"
        self._close(message)
        self._guard.close()
        raise WorkerLostError(message)

    async def _end_guard(self) -> None:
        """Return when the guard has ended, and with it all that it had started."""
        if self._ending:
            await self._ended.wait()
            return
        self._ending = True
        self._guard.hang_up()
        if not await self._guard.wait(_END_SECONDS):
            self._guard.kill()
            await self._guard.wait(_END_SECONDS)
        if not self._guard.ended_well:
            await self._sweep()
        self._ended.set()

    async def _sweep(self) -> None:
        job_ids, leaders = self._attempts.known()
        if job_ids and self._guard_since:
            lost = Lost(
                host_id=self._host_id, job_ids=job_ids, leaders=leaders, since=self._guard_since
            )
            await anyio.to_thread.run_sync(end_jobs, lost, _END_SECONDS)

    def _close(self, message: str = "the local worker was ended") -> None:
        """Serve no more: every attempt under way is lost, and the guard ends if it still runs."""
        if self._closed:
            return
        self._closed = True
        self._attempts.lose(message)
        self._line.close()
        if not self._guard.closed:
            self._guard.hang_up()
        self._pump.close()


async def _input_file(data: bytes) -> int:
    """Return a descriptor of a file that holds a job's input.

    Raises:
        NotStartedError: out of descriptors or of memory.
    """
    try:
        if len(data) <= _SMALL_INPUT_BYTES:
            return file_of(data)
        file = await anyio.to_thread.run_sync(file_of, data)
    except OSError as error:
        raise NotStartedError(f"no room for the job's input: {error}") from error
    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
    except BaseException:
        os.close(file)
        raise
    return file
