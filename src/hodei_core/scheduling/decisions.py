"""What a scheduler can decide about a job, each with its reasons."""

from __future__ import annotations

from typing import TypeAlias, Union

import attrs

from hodei_core.ids import WorkerId
from hodei_core.states import Reason, WaitingFor


@attrs.frozen(weakref_slot=False)
class Assign:
    """Run it on this worker, now."""

    worker_id: WorkerId
    reasons: tuple[str, ...] = ()


@attrs.frozen(weakref_slot=False)
class Provision:
    """No worker fits: have this provider make one."""

    provider: str
    reasons: tuple[str, ...] = ()


@attrs.frozen(weakref_slot=False)
class Wait:
    """Nothing can be done until a fact changes."""

    waiting_for: WaitingFor
    reasons: tuple[str, ...] = ()


@attrs.frozen(weakref_slot=False)
class Reject:
    """It can never run: end it."""

    reason: Reason
    reasons: tuple[str, ...] = ()


SchedulingDecision: TypeAlias = Union[Assign, Provision, Wait, Reject]  # noqa: UP007 - evaluated on 3.10
"""What becomes of a job that is due."""
