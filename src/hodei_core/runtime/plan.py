"""The changes of one step of the dispatcher, and what follows each once it is stored."""

from __future__ import annotations

from collections.abc import Callable

from hodei_core.ports import Change, Outcome

Settle = Callable[[Outcome], None]


class Plan:
    """Changes that go to the store together, each with what is to be done afterwards."""

    __slots__ = ("_settlers", "changes")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._settlers: list[Settle | None] = []

    def __bool__(self) -> bool:
        return bool(self.changes)

    def add(self, change: Change, settle: Settle | None = None) -> None:
        """Add a change, and what is to be done with its outcome."""
        self.changes.append(change)
        self._settlers.append(settle)

    def settle(self, outcomes: list[Outcome]) -> None:
        """Do what follows, in the order of the changes."""
        for settle, outcome in zip(self._settlers, outcomes, strict=True):
            if settle is not None:
                settle(outcome)
