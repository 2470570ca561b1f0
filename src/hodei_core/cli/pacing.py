"""Holds a job back while the reader of the program's output is slow.

A memory store forgets what a slow reader has not read. For a pipe that would be loss of data
(`hodei run 'cat big' | gzip`), so the program keeps the job no more than a little ahead of what
was printed, as a pipe does.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from hodei_core.compat import override
from hodei_core.executions import Execution, Exit
from hodei_core.ids import WorkerId
from hodei_core.logs import LogEntry, LogSource
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import AttemptOutput, ProviderHost, WorkerProvider, WorkerSession
from hodei_core.workers import Offer

_AHEAD_BYTES = 1024 * 1024  # above two unfinished lines, which no reader is given yet


class Pace:
    """How far the job is ahead of what was printed."""

    def __init__(self) -> None:
        self._ahead = 0
        self._lifted = False
        self._changed = anyio.Event()

    @property
    def room(self) -> bool:
        """Whether the job may print more."""
        return self._lifted or self._ahead < _AHEAD_BYTES

    def add(self, count: int) -> None:
        """Take note that the job has printed so many bytes."""
        self._ahead += count

    def printed(self, entries: Iterable[LogEntry]) -> None:
        """Take note that these were printed."""
        for entry in entries:
            self._ahead = 0 if entry.lost else self._ahead - len(entry.data)
        self._wake()

    def lift(self) -> None:
        """Hold the job back no more: nothing will be printed."""
        self._lifted = True
        self._wake()

    async def wait_for_room(self) -> None:
        """Return when the job may print more."""
        while not self.room:
            await self._changed.wait()

    def _wake(self) -> None:
        if self.room:
            self._changed.set()
            self._changed = anyio.Event()


class PacedProvider(WorkerProvider):
    """A provider whose jobs print no faster than `pace` allows."""

    def __init__(self, provider: WorkerProvider, pace: Pace) -> None:
        self._provider = provider
        self._pace = pace

    @property
    @override
    def offer(self) -> Offer:
        return self._provider.offer

    @property
    @override
    def policy(self) -> WorkerPolicy:
        return self._provider.policy

    @override
    async def open(self, host: ProviderHost) -> None:
        await self._provider.open(host)

    @override
    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        return _PacedSession(await self._provider.provision(worker_id), self._pace)

    @override
    async def discard(self, worker_id: WorkerId) -> None:
        await self._provider.discard(worker_id)

    @override
    async def close(self) -> None:
        await self._provider.close()


class _PacedSession(WorkerSession):
    def __init__(self, session: WorkerSession, pace: Pace) -> None:
        self._session = session
        self._pace = pace

    @override
    async def run(self) -> None:
        await self._session.run()

    @override
    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        return await self._session.execute(execution, _PacedOutput(output, self._pace))

    @override
    async def heartbeat(self) -> None:
        await self._session.heartbeat()

    @override
    async def terminate(self) -> None:
        await self._session.terminate()


class _PacedOutput(AttemptOutput):
    def __init__(self, output: AttemptOutput, pace: Pace) -> None:
        self._output = output
        self._pace = pace

    @override
    def started(self, ago: float = 0.0) -> None:
        self._output.started(ago)

    @override
    def feed(self, source: LogSource, data: bytes) -> bool:
        self._pace.add(len(data))
        return self._output.feed(source, data) and self._pace.room

    @override
    def finish(self, source: LogSource) -> None:
        self._output.finish(source)

    @override
    async def ready(self) -> None:
        await self._output.ready()
        await self._pace.wait_for_room()

    @property
    @override
    def grace(self) -> float:
        return self._output.grace
