"""Identifiers of jobs, workers and hosts, and the randomness that they are made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import NewType
from urllib.parse import quote

JobId = NewType("JobId", str)
"""The identifier of a job: a random UUID as text, unguessable and unique across forks."""

WorkerId = NewType("WorkerId", str)
"""The identifier of a worker: its provider's name, a dash and random characters."""

HostId = NewType("HostId", str)
"""The identifier of one opening of a `Hodei` that dispatches: its incarnation."""


RandomBytes = Callable[[int], bytes]
"""Returns so many random bytes: `os.urandom`; in simulations a seeded generator's `randbytes`."""


class IdSource:
    """Makes identifiers, and whatever else is left to chance."""

    def __init__(self, random_bytes: RandomBytes = os.urandom) -> None:
        self._random_bytes = random_bytes

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

    def chance(self) -> float:
        """Return a random number, from 0 to just below 1."""
        return int.from_bytes(self._random_bytes(4), "big") / 2**32

    def _digits(self) -> str:
        """Return 128 random bits as 32 hexadecimal digits."""
        return self._random_bytes(16).hex()


_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


_MAX_NAME = 200  # characters of a file's name, suffixes aside: most systems allow 255


def file_name(of: str) -> str:
    """Return the name, without a suffix, of a file of a host or worker with this id.

    A provider's name, with which the id of a worker begins, may hold what no file's name may.
    """
    name = quote(of, safe="", errors="surrogatepass")
    if len(name) > _MAX_NAME or not name.strip("."):
        return hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()
    return name
