"""What happened in a simulated run, in order; its hash tells two runs apart."""

from __future__ import annotations

import hashlib
from collections import deque

from tests.simulation.faults import InvariantError

KEPT = 400


class History:
    """A log of facts, of which the last ones are kept and all are hashed."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.last: deque[str] = deque(maxlen=KEPT)
        self.count = 0
        self.violations: list[str] = []
        """The promises that were broken, first one first, whoever caught the error."""

    def note(self, at: float, text: str) -> None:
        """Add a fact."""
        line = f"{at:12.6f} {text}"
        self._hash.update(line.encode())
        if not self.violations:
            self.last.append(line)
        self.count += 1

    def broken(self, problem: str) -> InvariantError:
        """Return the error to raise for a broken promise; it counts even if it is swallowed."""
        if not self.violations:
            self.last.append(f"{'':12} {problem}")
        self.violations.append(problem)
        return InvariantError(problem)

    def check(self) -> None:
        """Fail if a promise was broken.

        Raises:
            InvariantError
        """
        if self.violations:
            raise InvariantError(self.violations[0])

    def digest(self) -> str:
        """Return the hash of all facts."""
        return self._hash.hexdigest()[:16]
