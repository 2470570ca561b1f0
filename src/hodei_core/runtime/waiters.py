"""Those who wait until a job is final."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from hodei_core.ids import JobId


class Waiters:
    """Wakes everybody who waits for a job when it is final, and everybody when told to."""

    def __init__(self) -> None:
        self._events: dict[JobId, anyio.Event] = {}
        self._counts: dict[JobId, int] = {}

    @contextmanager
    def of(self, job_id: JobId) -> Iterator[anyio.Event]:
        """Give the event that is set when the job is final, or everybody is woken."""
        event = self._events.get(job_id)
        if event is None:
            event = self._events[job_id] = anyio.Event()
            self._counts[job_id] = 0
        self._counts[job_id] += 1
        try:
            yield event
        finally:
            if self._events.get(job_id) is event:
                self._counts[job_id] -= 1
                if not self._counts[job_id]:
                    del self._events[job_id], self._counts[job_id]

    def wake(self, job_id: JobId) -> None:
        """Wake those who wait for this job."""
        event = self._events.pop(job_id, None)
        if event is not None:
            del self._counts[job_id]
            event.set()

    def wake_all(self) -> None:
        """Wake everybody: nothing more will come."""
        for job_id in list(self._events):
            self.wake(job_id)
