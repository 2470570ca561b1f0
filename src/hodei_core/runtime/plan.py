"""The changes of one step of the dispatcher, and what follows each once it is stored."""

from __future__ import annotations

from collections.abc import Callable

from hodei_core.ports import Change, Outcome

Settle = Callable[[Outcome], None]


class Plan:
    """Changes that go to the store together, each with what is to be done afterwards."""

    __slots__ = ("_settlers", "_urgent", "changes")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._settlers: list[Settle | None] = []
        self._urgent: list[tuple[int, Settle]] = []

    def __bool__(self) -> bool:
        return bool(self.changes)

    def add(self, change: Change, settle: Settle | None = None) -> None:
        """Add a change, and what is to be done with its outcome."""
        self.changes.append(change)
        self._settlers.append(settle)

    def add_start(self, change: Change, settle: Settle) -> None:
        """Add a change that a slot waits for: what follows it is done before the rest."""
        self._urgent.append((len(self.changes), settle))
        self.add(change)

    def settle(self, outcomes: list[Outcome]) -> None:
        """Do what follows, in the order of the changes."""
        for place, begin in self._urgent:
            begin(outcomes[place])
        for settle, outcome in zip(self._settlers, outcomes, strict=True):
            if settle is not None:
                settle(outcome)
