"""What a row of the table reports: figures, each with its floor and its targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Judged(Enum):
    """What the targets of a figure are compared with."""

    RATIO = "ratio"
    """Ours divided by the floor."""

    DIFFERENCE = "difference"
    """Ours less the floor."""

    OURS = "ours"
    """Ours alone: the floor is there to tell a slow machine from a slow library."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured quantity."""

    name: str
    """Stable: what programs that read the JSON look for."""

    what: str
    unit: str
    floor_is: str
    floor: float | None
    ours: float
    judged: Judged
    value: float
    """What the targets are compared with: the median over the rounds."""

    first: float | None = None
    """The target of the first release; None: it is only on record."""

    end: float | None = None
    """The target where it must end; None: it is only on record."""

    more_is_better: bool = False
    note: str = ""

    @property
    def reached(self) -> str:
        """Which target was reached: "end", "first", "no", or "-" if there is none."""
        if self.first is None and self.end is None:
            return "-"
        if self.end is not None and self._meets(self.end):
            return "end"
        if self.first is None:
            return "-"
        return "first" if self._meets(self.first) else "no"

    def _meets(self, target: float) -> bool:
        return self.value >= target if self.more_is_better else self.value <= target

    def as_json(self) -> dict[str, Any]:
        """Return the figure as what JSON can hold."""
        return {**asdict(self), "judged": self.judged.value, "reached": self.reached}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Figure:
        """Return the figure that `as_json` was made of."""
        known = {name: value for name, value in fields.items() if name != "reached"}
        return cls(**{**known, "judged": Judged(fields["judged"])})


@dataclass(frozen=True)
class Row:
    """A row of the table: one program that measures one or several figures."""

    name: str
    title: str
    measure: Callable[[bool], list[Figure]]
    """Measures; True: at tiny sizes, whose figures mean nothing."""
