"""How long the host of a provider may count on its lease."""

from __future__ import annotations

import time

import anyio


class Lease:
    """When a host's guards end all that runs, unless the lease is renewed before."""

    def __init__(self) -> None:
        self.until: float | None = None
        """By CLOCK_BOOTTIME, which goes on while the machine sleeps; None: it does not end."""

        self._renewed: anyio.Event | None = None

    def renew(self, seconds: float | None) -> None:
        """Have it hold for so many seconds more; None: without end."""
        self.until = None if seconds is None else _boot_time() + seconds
        if self._renewed is not None:
            self._renewed.set()

    async def held(self) -> None:
        """Return when it holds: a worker that is made without one would be lost at once."""
        while self.until is not None and self.until <= _boot_time():
            if self._renewed is None or self._renewed.is_set():
                self._renewed = anyio.Event()
            await self._renewed.wait()


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
