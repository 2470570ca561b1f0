"""What happened in a simulated run, in order; its hash tells two runs apart."""

from __future__ import annotations

import hashlib
from collections import deque

KEPT = 400


class History:
    """A log of facts, of which the last ones are kept and all are hashed."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.last: deque[str] = deque(maxlen=KEPT)
        self.count = 0

    def note(self, at: float, text: str) -> None:
        """Add a fact."""
        line = f"{at:12.6f} {text}"
        self._hash.update(line.encode())
        self.last.append(line)
        self.count += 1

    def digest(self) -> str:
        """Return the hash of all facts."""
        return self._hash.hexdigest()[:16]
