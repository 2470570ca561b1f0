"""What a scheduler can decide about a job, each with its reasons."""

from __future__ import annotations

from typing import TypeAlias, Union

import attrs

from hodei_core.ids import WorkerId
from hodei_core.states import Reason, WaitingFor
from hodei_core.values import Value


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Assign(Value):
    """Run it on this worker, now."""

    worker_id: WorkerId
    reasons: tuple[str, ...] = ()


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Provision(Value):
    """No worker fits: have this provider make one."""

    provider: str
    reasons: tuple[str, ...] = ()


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Wait(Value):
    """Nothing can be done until a fact changes."""

    waiting_for: WaitingFor
    reasons: tuple[str, ...] = ()


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Reject(Value):
    """It can never run: end it."""

    reason: Reason
    reasons: tuple[str, ...] = ()


SchedulingDecision: TypeAlias = Union[Assign, Provision, Wait, Reject]  # noqa: UP007 - evaluated on 3.10
"""What becomes of a job that is due."""
