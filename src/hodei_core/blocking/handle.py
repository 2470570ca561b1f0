"""The handle of one job, without `async`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hodei_core.blocking.streams import LogStream
from hodei_core.explanations import Explanation
from hodei_core.handle import JobHandle as AsyncJobHandle
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogSource
from hodei_core.results import JobResult

if TYPE_CHECKING:
    from hodei_core.blocking.portal import Portal


class JobHandle:
    """One job, by its id: the twin of `hodei_core.JobHandle`, without `async`.

    Ctrl-C ends the call that waits; nothing happens to the job. Any thread may call it.
    """

    def __init__(self, portal: Portal, twin: AsyncJobHandle) -> None:
        self.id: JobId = twin.id
        """The job's id."""

        self._portal = portal
        self._twin = twin

    def __repr__(self) -> str:
        return f"blocking.{self._twin!r}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobHandle):
            return NotImplemented
        return self._twin == other._twin

    def __hash__(self) -> int:
        return hash(self._twin)

    def snapshot(self) -> Job:
        """Return the job as `hodei_core.JobHandle.snapshot` does."""
        return self._portal.call(self._twin.snapshot)

    def wait(self, timeout: float | timedelta | None = None) -> JobResult:
        """Wait for the job's end as `hodei_core.JobHandle.wait` does."""
        return self._portal.call(lambda: self._twin.wait(timeout))

    def cancel(self, reason: str | None = None) -> JobResult:
        """End the job as `hodei_core.JobHandle.cancel` does; Ctrl-C ends only the wait."""
        return self._portal.call(lambda: self._twin.cancel(reason))

    def logs(
        self,
        *,
        after: int = 0,
        tail: int | None = None,
        follow: bool = True,
        source: LogSource | None = None,
    ) -> LogStream:
        """Return an iterator of log entries as `hodei_core.JobHandle.logs` does, for `for`."""
        stream = self._portal.here(
            lambda: self._twin.logs(after=after, tail=tail, follow=follow, source=source)
        )
        return LogStream(self._portal, stream)

    def output(
        self, *, source: LogSource | None = LogSource.STDOUT, attempt: int | None = None
    ) -> bytes:
        """Return what the job printed as `hodei_core.JobHandle.output` does."""
        return self._portal.call(lambda: self._twin.output(source=source, attempt=attempt))

    def explain(self) -> Explanation:
        """Return why the job is where it is as `hodei_core.JobHandle.explain` does."""
        return self._portal.call(self._twin.explain)

    def retry(self) -> JobHandle:
        """Submit the spec again as `hodei_core.JobHandle.retry` does."""
        return JobHandle(self._portal, self._portal.call(self._twin.retry))
