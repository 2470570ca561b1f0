"""The handle of one job."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from hodei_core.checks import text_or_none
from hodei_core.clock import to_timedelta
from hodei_core.explanations import Explanation
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogSource
from hodei_core.results import JobResult
from hodei_core.runtime.log_stream import LogStream

if TYPE_CHECKING:
    from hodei_core.runtime.service import Service


class JobHandle:
    """One job, by its id; `await handle` is `await handle.wait()`.

    Handles are cheap and many may exist for one job. Every call raises `JobNotFoundError` if
    the job is unknown or was pruned, `HodeiClosedError`, `HodeiBrokenError` or `ForkedError` if
    its `Hodei` cannot answer, and what the store raises, as `Hodei` says.
    """

    def __init__(self, service: Service, job_id: JobId) -> None:
        self.id = job_id
        """The job's id."""

        self._service = service

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobHandle):
            return NotImplemented
        return self.id == other.id and self._service is other._service

    def __hash__(self) -> int:
        return hash(self.id)

    def __await__(self) -> Generator[Any, Any, JobResult]:
        return self.wait().__await__()

    async def snapshot(self) -> Job:
        """Return the job as it is now; the value does not change."""
        return await self._service.reading.job(self.id)

    async def wait(self, timeout: float | timedelta | None = None) -> JobResult:
        """Return how the job ended, once it has.

        Args:
            timeout: seconds to wait at most; None: without end.

        Raises:
            TimeoutError: it has not ended; nothing happens to it.
        """
        if timeout is None:
            return await self._service.wait(self.id)
        try:
            seconds = to_timedelta(timeout).total_seconds()
        except (TypeError, ValueError) as error:
            raise type(error)(f"timeout {error}") from None
        with anyio.move_on_after(seconds):
            return await self._service.wait(self.id)
        msg = f"job {self.id} has not ended within {seconds:g} s"
        raise TimeoutError(msg)

    async def cancel(self, reason: str | None = None) -> JobResult:
        """End the job; return how it ended, once its process tree is gone and that is stored.

        The request is stored first, so it happens even if this call is cancelled. Idempotent:
        a job that had ended already stays as it was, and its result says so.
        """
        return await self._service.cancel(self.id, text_or_none("reason", reason))

    def logs(
        self,
        *,
        after: int = 0,
        tail: int | None = None,
        follow: bool = True,
        source: LogSource | None = None,
    ) -> LogStream:
        """Return an async iterator of the job's log entries, which ends when the job has.

        Args:
            after: only entries with a `seq` above this.
            tail: only the last `tail` entries of the source at the call, then on.
            follow: whether to wait for more; if not, what is there now.
            source: only entries of this source; entries of SYSTEM come in any case.

        Raises:
            ValueError: `after` and `tail` are both given, or negative.
        """
        return self._service.logs(self.id, after=after, tail=tail, follow=follow, source=source)

    async def output(
        self, *, source: LogSource | None = LogSource.STDOUT, attempt: int | None = None
    ) -> bytes:
        """Return what an attempt has printed so far, byte for byte.

        Args:
            source: the stream; None: both, in the order of arrival.
            attempt: its number; None: the last.

        Raises:
            ValueError: there is no such attempt.
            OutputTooLargeError: it is over 8 MiB; read `logs()`.
            OutputLostError: a part of it is no longer stored.
        """
        return await self._service.reading.output(self.id, source, attempt)

    async def explain(self) -> Explanation:
        """Return why the job is where it is, worker by worker and provider by provider."""
        return await self._service.explain(self.id)

    async def retry(self) -> JobHandle:
        """Submit the spec of a final job again; the new job takes over its key.

        Raises:
            JobNotFinalError: it has not ended.
            KeyConflictError: another job that has not ended holds the key.
            QueueFullError: `max_pending` jobs wait already.
        """
        return JobHandle(self._service, (await self._service.retry(self.id)).id)
