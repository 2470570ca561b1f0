"""What can go wrong in a simulated history, and how often."""

from __future__ import annotations

import random

import attrs

KINDS = (
    "store busy",
    "store slow",
    "store unsure",
    "making fails",
    "making slow",
    "making hangs",
    "reply lost",
    "reply late",
    "reply junk",
    "discard fails",
    "worker lost",
    "worker silent",
    "not started",
    "host crash",
    "host pause",
    "second host",
    "wall jump",
    "wild cancel",
    "store late",
    "store gone",
    "host leaves",
    "prune",
    "client",
    "cancel many",
    "pending timeout",
    "few pending",
)
"""Each seed leaves a random half of these out."""


class HostCrashed(BaseException):
    """Ends all that a crashed host still does in memory; outside it has no effect any more."""


class InvariantError(AssertionError):
    """The library broke a promise."""


@attrs.define
class Faults:
    """The faults of one history; none after `stop`."""

    chance: random.Random
    kinds: frozenset[str]
    on: bool = True
    counts: dict[str, int] = attrs.field(factory=dict)

    @classmethod
    def of(cls, chance: random.Random) -> Faults:
        """Draw which kinds a history has."""
        kinds = chance.sample(KINDS, len(KINDS) // 2)
        return cls(chance=chance, kinds=frozenset(kinds))

    @classmethod
    def none(cls) -> Faults:
        """Return no faults at all."""
        return cls(chance=random.Random(0), kinds=frozenset(), on=False)

    def strike(self, kind: str, odds: float) -> bool:
        """Return whether a fault of this kind happens now."""
        if not self.on or kind not in self.kinds or self.chance.random() >= odds:
            return False
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return True

    def stop(self) -> None:
        """Let all be well from now on."""
        self.on = False
