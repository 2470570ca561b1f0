"""Deletes what the retention of a store does not keep any longer."""

from __future__ import annotations

import logging

from hodei_core.clock import Clock
from hodei_core.errors import HodeiError
from hodei_core.ports import Change, Outcome, Retain, Store
from hodei_core.retention import Retention
from hodei_core.runtime.slices import SLICE_JOBS, in_slices

logger: logging.Logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""How often it is looked whether something is too old or too much."""


class Retaining:
    """Looks at once, so that programs that run for seconds clean up too, and every now and then.

    Hosts that share a store may all do it: what one has deleted the others do not find.
    """

    def __init__(self, store: Store, clock: Clock, retention: Retention) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self._look()
            await self._clock.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        change = Retain(self._retention, self._clock.now(), limit=SLICE_JOBS)
        try:
            count = await in_slices(self._ask, change)
        except HodeiError as error:
            logger.warning("what is old was not deleted yet: %s", error, extra={"action": "retain"})
        else:
            if count:
                logger.debug("%d old jobs were deleted", count, extra={"action": "retain"})

    async def _ask(self, change: Change) -> Outcome:
        (outcome,) = await self._store.apply([change])
        return outcome
