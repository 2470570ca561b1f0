"""One attempt under way on a worker of this host."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from hodei_core.clock import Clock
from hodei_core.compat import override
from hodei_core.endings import Ending
from hodei_core.executions import Execution
from hodei_core.ids import WorkerId
from hodei_core.jobs import Job
from hodei_core.logs import LogSource
from hodei_core.ports import AttemptOutput
from hodei_core.runtime.deadlines import Deadline
from hodei_core.runtime.log_buffer import LogBuffer
from hodei_core.states import Reason

SHUTDOWN_GRACE = 10.0
"""The most seconds that a job's grace lasts while its host shuts down."""


class RunHost(Protocol):
    """What a run needs of its host."""

    @property
    def clock(self) -> Clock:
        """The clock of the host."""

    def run_started(self, run: Run) -> None:
        """Take note that the attempt runs."""

    def log_of(self, run: Run) -> LogBuffer:
        """Return the buffer of the run's job, ready for this attempt."""


class Run(AttemptOutput):
    """An attempt from its assignment to its recorded end; also where its output goes.

    Owned by the dispatcher; its slot fills in how it ended.
    """

    __slots__ = (
        "_host",
        "assigned",
        "cancel_message",
        "cause",
        "end",
        "ending",
        "heeded",
        "job",
        "log",
        "recorded_start",
        "shutdown",
        "started_at",
        "started_since",
        "timeout",
        "worker_id",
    )

    def __init__(self, host: RunHost, job: Job, worker_id: WorkerId) -> None:
        self._host = host
        self.job: Job = job
        """The job as it is stored."""

        self.worker_id: WorkerId = worker_id
        self.assigned: float = host.clock.monotonic()
        self.started_at: datetime | None = None
        self.started_since: float = 0.0
        """The start by the monotonic clock."""

        self.recorded_start: bool = False
        """Whether RUNNING is stored."""

        self.cause: Reason | None = None
        """Why the attempt is being ended; None while nobody wants that."""

        self.cancel_message: str | None = None
        self.shutdown: bool = False
        self.ending: Ending | None = None
        """How it ended, once that is known."""

        self.heeded: bool = False
        """Whether a cancel request that the store had was looked at when its end was stored."""

        self.log: LogBuffer | None = None
        self.timeout: Deadline | None = None
        self.end: Callable[[], None] | None = None
        """Ends the attempt by cancelling its scope; set while its slot has it."""

    @property
    def execution(self) -> Execution:
        """What the worker is told."""
        return Execution(job_id=self.job.id, attempt=self.job.attempt.number, spec=self.job.spec)

    def stop(self, cause: Reason) -> None:
        """End the attempt for this cause, unless it has ended or is being ended for another.

        A cancel takes precedence over what was begun before it; an exit that is known, over
        everything.
        """
        if self.ending is not None:
            return
        if self.cause is None or cause is Reason.CANCELLED:
            self.cause = cause
        if self.end is not None:
            self.end()

    def interrupt(self) -> None:
        """End the attempt since the host shuts down."""
        self.shutdown = True
        self.stop(Reason.INTERRUPTED)

    def cancel(self, why: str | None) -> None:
        """End the attempt because somebody asked for it, and said why or not."""
        if self.cause is not Reason.CANCELLED:
            self.cancel_message = why
        self.stop(Reason.CANCELLED)

    def ended(self, ending: Ending) -> None:
        """Take note of how the attempt ended, as its slot saw it."""
        self.ending = ending
        self.finish(LogSource.STDOUT)
        self.finish(LogSource.STDERR)
        if self.timeout is not None:
            self.timeout.cancel()

    def ended_at(self) -> datetime:
        """Return the present instant, no earlier than the start by the time it ran."""
        if self.started_at is None:
            return self._host.clock.now()
        ran = self._host.clock.monotonic() - self.started_since
        return self.started_at + timedelta(seconds=max(ran, 0))

    # AttemptOutput

    @override
    def started(self, ago: float = 0.0) -> None:
        clock = self._host.clock
        self.started_since = clock.monotonic() - ago
        self.started_at = clock.now() - timedelta(seconds=ago) if ago else clock.now()
        self._host.run_started(self)

    @override
    def feed(self, source: LogSource, data: bytes) -> bool:
        if self.log is None:
            self.log = self._host.log_of(self)
        return self.log.feed(source, data, self._host.clock.now())

    @override
    def finish(self, source: LogSource) -> None:
        if self.log is not None:
            self.log.finish(source, self._host.clock.now())

    @override
    async def ready(self) -> None:
        if self.log is not None:
            await self.log.room()

    @property
    @override
    def grace(self) -> float:
        seconds = self.job.spec.grace.total_seconds()
        return min(seconds, SHUTDOWN_GRACE) if self.shutdown else seconds
