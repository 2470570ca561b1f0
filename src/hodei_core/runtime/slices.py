"""Long deletions, cut into slices between which others get to write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from hodei_core.ports import Change, Outcome

SLICE_JOBS = 250
"""The most jobs that one commit deletes."""

_PAUSE = 0.01  # seconds: so that a process that waits for the file to be free finds it free


async def in_slices(ask: Callable[[Change], Awaitable[Outcome]], change: Change) -> int:
    """Make a change that has a limit until nothing more is left of it; return the count.

    Raises:
        HodeiError: the store refuses; what was done until then is done.
    """
    count = 0
    while True:
        outcome = await ask(change)
        count += outcome.count
        if not outcome.more:
            return count
        await anyio.sleep(_PAUSE)
