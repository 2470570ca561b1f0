"""Identifiers of jobs, workers and hosts."""

from __future__ import annotations

import random
import uuid
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
        return JobId(str(self._uuid()))

    def worker_id(self, provider: str) -> WorkerId:
        """Return a new id for a worker of the provider of that name."""
        return WorkerId(f"{provider}-{self._uuid().hex[:12]}")

    def host_id(self) -> HostId:
        """Return a new id for one opening of a host."""
        return HostId(self._uuid().hex)

    def _uuid(self) -> uuid.UUID:
        if self._random is None:
            return uuid.uuid4()
        return uuid.UUID(int=self._random.getrandbits(128), version=4)
