"""How a job ended, for the one who waited for it."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from hodei_core.compat import Self
from hodei_core.errors import JobFailedError
from hodei_core.ids import JobId
from hodei_core.jobs import Attempt, Job
from hodei_core.states import JobState, Reason
from hodei_core.values import Value

TEXT_BYTES = 64 * 1024
"""How much of the end of each stream a result holds."""

_SHOWN_LINES = 20


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobResult(Value):
    """The end of a job: its final state and the last of its output."""

    job_id: JobId
    name: str | None
    command: str | tuple[str, ...]
    state: JobState
    reason: Reason | None
    """Why it did not succeed; None on success."""

    message: str | None
    """The cause in words, where there is more to say than `reason`."""

    exit_code: int | None
    """0-255, or 128 + n if signal n ended the leader; None if nothing exited."""

    attempts: tuple[Attempt, ...] = attrs.field(repr=False)
    submitted_at: datetime
    started_at: datetime | None
    """When its first attempt started."""

    finished_at: datetime
    stdout: str = attrs.field(default="", repr=False)
    """The last 64 KiB that the last attempt wrote, decoded."""

    stderr: str = attrs.field(default="", repr=False)
    """The last 64 KiB that the last attempt wrote to its standard error, decoded."""

    truncated: bool = False
    """Whether more was written than either text holds, or a part of it was lost."""

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.state is JobState.SUCCEEDED

    @property
    def duration(self) -> timedelta | None:
        """The time from its first start to its end; None if it never started."""
        return None if self.started_at is None else self.finished_at - self.started_at

    def check(self) -> Self:
        """Return the result itself if the job succeeded.

        Raises:
            JobFailedError: it did not; the message shows the command and the last 20 lines
                of its standard error.
        """
        if self.ok:
            return self
        raise JobFailedError(self._failure(), result=self)

    def _failure(self) -> str:
        import shlex  # for this alone

        command = self.command if isinstance(self.command, str) else shlex.join(self.command)
        end = self.state.name if self.reason is None else f"{self.state.name} ({self.reason.name})"
        if self.exit_code is not None:
            end += f", exit code {self.exit_code}"
        lines = [f"job {self.job_id} ended {end}: {command}"]
        if self.message:
            lines.append(self.message)
        if self.stderr:
            lines.extend(self.stderr.removesuffix("\n").split("\n")[-_SHOWN_LINES:])
        return "\n".join(lines)


def make_result(job: Job, *, stdout: str, stderr: str, truncated: bool) -> JobResult:
    """Return the result of a job that is final."""
    assert job.finished_at is not None, "a result is made of a final job"  # noqa: S101 - narrows the type
    return JobResult(
        job_id=job.id,
        name=job.spec.name,
        command=job.spec.command,
        state=job.state,
        reason=job.reason,
        message=job.message,
        exit_code=job.exit_code,
        attempts=job.attempts,
        submitted_at=job.submitted_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        stdout=stdout,
        stderr=stderr,
        truncated=truncated,
    )
