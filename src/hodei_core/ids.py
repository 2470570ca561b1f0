"""Identifiers of jobs, workers and hosts."""

from __future__ import annotations

import os
import random
from typing import NewType

JobId = NewType("JobId", str)
"""The identifier of a job: a random UUID as text, unguessable and unique across forks."""

WorkerId = NewType("WorkerId", str)
"""The identifier of a worker: its provider's name, a dash and random characters."""

HostId = NewType("HostId", str)
"""The identifier of one opening of a `Hodei` that dispatches: its incarnation."""


class IdSource:
    """Makes identifiers: from the system's randomness, or from a seed in simulations."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - a replayable history is the point

    def job_id(self) -> JobId:
        """Return a new id for a job."""
        digits = self._digits()
        # As uuid.UUID(hex=digits, version=4) would print it, at a third of the cost.
        return JobId(
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}"
            f"-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
        )

    def worker_id(self, provider: str) -> WorkerId:
        """Return a new id for a worker of the provider of that name."""
        return WorkerId(f"{provider}-{self._digits()[:12]}")

    def host_id(self) -> HostId:
        """Return a new id for one opening of a host."""
        return HostId(self._digits())

    def _digits(self) -> str:
        """Return 128 random bits as 32 hexadecimal digits."""
        if self._random is None:
            return os.urandom(16).hex()
        return f"{self._random.getrandbits(128):032x}"


_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
