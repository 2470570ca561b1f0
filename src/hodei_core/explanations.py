"""Why a job is where it is."""

from __future__ import annotations

import attrs

from hodei_core.ids import JobId, WorkerId
from hodei_core.states import JobState
from hodei_core.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Explanation(Value):
    """Why a job is where it is; `str()` of it is the answer in words."""

    job_id: JobId
    state: JobState
    summary: str
    """The answer in one sentence."""

    workers: tuple[tuple[WorkerId, str], ...] = ()
    """Each worker and why it does not run the job, while the job is PENDING."""

    providers: tuple[tuple[str, str], ...] = ()
    """Each provider and why it makes no worker for it, while the job is PENDING."""

    position: int | None = None
    """Jobs ahead of it that need the same, 0 for the first; None unless it is due."""

    def __str__(self) -> str:
        lines = [self.summary]
        lines.extend(f"  worker {worker}: {why}" for worker, why in self.workers)
        lines.extend(f"  provider {provider}: {why}" for provider, why in self.providers)
        return "\n".join(lines)
