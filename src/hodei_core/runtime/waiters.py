"""Those who wait until a job is final."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeAlias

import anyio

from hodei_core.compat import Self
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogSegment
from hodei_core.runtime.interrupts import wait_for

Printed: TypeAlias = "tuple[LogSegment, ...] | None"
"""All that a job has printed, where that is at hand; None: its store has it."""


class Waiters:
    """Wakes everybody who waits for a job when it is final, and everybody when told to."""

    def __init__(self) -> None:
        self._waiting: dict[JobId, list[Waiter]] = {}

    def of(self, job_id: JobId) -> Waiter:
        """Return one more who waits for a job: enter it before the job is read."""
        return Waiter(self._waiting, job_id)

    def ids(self) -> Mapping[JobId, object]:
        """Return the jobs that somebody waits for, as they are by now."""
        return self._waiting

    def wake(self, job: Job, printed: Callable[[], Printed] = lambda: None) -> None:
        """Wake those who wait for this job, which is final; `printed` tells what it printed."""
        waiting = self._waiting.pop(job.id, None)
        if waiting is not None:
            told = printed()
            for waiter in waiting:
                waiter.wake(job, told)

    def look_again(self, job_id: JobId) -> None:
        """Have those who wait for this job look at the store."""
        for waiter in self._waiting.get(job_id, ()):
            waiter.look_again()

    def all_look_again(self) -> None:
        """Have everybody look at the store."""
        for job_id in self._waiting:
            self.look_again(job_id)

    def wake_all(self) -> None:
        """Wake everybody: nothing more will come."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for waiters in waiting:
            for waiter in waiters:
                waiter.wake(None, None)


class Waiter:
    """One who waits for a job, as long as its `with` block lasts."""

    __slots__ = ("_event", "_job_id", "_looks", "_waiting", "_woken", "job", "printed")

    def __init__(self, waiting: dict[JobId, list[Waiter]], job_id: JobId) -> None:
        self._waiting = waiting
        self._job_id = job_id
        self._event: anyio.Event | None = None
        self._looks = False
        self._woken = False
        self.job: Job | None = None
        """The job, once it is final."""

        self.printed: Printed = None

    def __enter__(self) -> Self:
        self._waiting.setdefault(self._job_id, []).append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._woken:
            return
        waiters = self._waiting[self._job_id]
        waiters.remove(self)
        if not waiters:
            del self._waiting[self._job_id]

    async def wait(self) -> None:
        """Return when the job is final, or everybody is woken or is to look again."""
        if not self._woken and not self._looks:
            self._event = anyio.Event()
            await wait_for(self._event)
        self._looks = False

    def look_again(self) -> None:
        """Let it look at the store, and wait on; once more, if it is looking just now."""
        self._looks = True
        if self._event is not None:
            self._event.set()

    def wake(self, job: Job | None, printed: Printed) -> None:
        """Let it go on."""
        self._woken = True
        self.job = job
        self.printed = printed
        if self._event is not None:
            self._event.set()
