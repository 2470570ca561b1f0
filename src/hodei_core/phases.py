"""Where the time of a job went: a phase for each thing that it waited for, or did."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import TypeAlias, Union

import attrs

from hodei_core.states import JobState, WaitingFor
from hodei_core.values import Value

PhaseKind: TypeAlias = Union[WaitingFor, JobState]  # noqa: UP007 - evaluated on 3.10
"""What a job waits for while PENDING, else its state."""

TURN = "it waited for its turn, or for a worker with room"
"""The reason of a wait of which nothing else is known."""

_REMEMBERED = 16  # changes of what a class of needs waits for; older ones count as one


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class Phase(Value):
    """A part of a job's life."""

    kind: PhaseKind
    since: datetime
    until: datetime
    reason: str = attrs.field(kw_only=True)


class WaitLog:
    """What the jobs of one class of needs waited for, and since when."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[tuple[datetime, WaitingFor, tuple[str, ...]]] = deque(
            maxlen=_REMEMBERED
        )

    def __bool__(self) -> bool:
        return bool(self._entries)

    def note(self, since: datetime, kind: WaitingFor, reasons: tuple[str, ...]) -> None:
        """Take note of what they wait for from an instant on."""
        if not self._entries or self._entries[-1][1:] != (kind, reasons):
            self._entries.append((since, kind, reasons))

    def phases(self, since: datetime, until: datetime) -> list[Phase]:
        """Return what a job of the class waited for between two instants, without gaps."""
        found: list[Phase] = []
        kind, reason = WaitingFor.CAPACITY, TURN
        at = since
        for noted, next_kind, reasons in self._entries:
            if noted >= until:
                break
            if noted > at:
                found.append(Phase(kind, at, noted, reason=reason))
                at = noted
            kind, reason = next_kind, "; ".join(reasons) or TURN
        found.append(Phase(kind, at, until, reason=reason))
        return found
