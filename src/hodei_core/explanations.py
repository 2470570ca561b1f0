"""Why a job is where it is."""

from __future__ import annotations

from datetime import timedelta

import attrs

from hodei_core.ids import JobId, WorkerId
from hodei_core.phases import PhaseKind
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

    history: tuple[tuple[PhaseKind, timedelta, str], ...] = ()
    """Where its time went: a phase each in order, without the final state.

    What it waited for while PENDING, or its state; how long; and why. They add up to the time
    from its submission to its end, or to now.
    """

    def __str__(self) -> str:
        lines = [self.summary]
        if len(self.history) > 1:
            lines.extend(
                f"  {span(lasted)} {kind.name}: {why}" for kind, lasted, why in self.history
            )
        lines.extend(f"  worker {worker}: {why}" for worker, why in self.workers)
        lines.extend(f"  provider {provider}: {why}" for provider, why in self.providers)
        return "\n".join(lines)


def span(length: timedelta) -> str:
    """Return a span in words: "2.5 s", "3 min 20 s", "2 h 5 min"; never negative."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
