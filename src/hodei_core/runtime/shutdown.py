"""How a host comes to rest: what it waits for, what it ends, in which order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import anyio

from hodei_core.errors import HodeiError
from hodei_core.ports import Store
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.dispatcher import Dispatcher
from hodei_core.runtime.gate import Stop
from hodei_core.runtime.run import SHUTDOWN_GRACE

logger: logging.Logger = logging.getLogger(__name__)

_STORE_PAUSE = 0.5  # seconds between asks of a store that refuses
_RECORD_SECONDS = 2.0  # that the ends of attempts may take to be written
_MARGIN_SECONDS = 5.0  # beyond the grace, for trees to end and for their ends to be written


async def nothing_left(store: Store) -> bool:
    """Return whether every job of a store is final."""
    counts = await store.jobs.counts()
    return not any(count for state, count in counts.items() if not state.is_final)


class Shutdown:
    """Brings the work of a host to its end, the way that it was told to stop.

    `how` gives the way, which may become a harder one while this runs.
    """

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        deadlines: Deadlines,
        timeout: timedelta | None,
        how: Callable[[], Stop | None],
        request_stop: Callable[[Stop], None],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._deadlines = deadlines
        self._timeout = timeout
        self._how = how
        self._request_stop = request_stop

    async def run(self) -> None:
        """Wait for what the way of stopping allows to end, and end the rest."""
        if self._how() is Stop.NORMALLY:
            await self._wait()
        if self._how() is Stop.BROKEN:
            return
        if self._dispatcher.running:
            self._dispatcher.interrupt()
            with anyio.move_on_after(SHUTDOWN_GRACE + _MARGIN_SECONDS):
                await self._dispatcher.until(self._idle)
        self._dispatcher.draining = True
        if not self._store.durable:
            await self._end_pending()

    async def finish(self) -> None:
        """Record what ended only when its worker was gone, after every provider was closed."""
        if self._how() is Stop.BROKEN:
            return
        with anyio.move_on_after(_RECORD_SECONDS):
            await self._dispatcher.until(self._idle)
        if not self._store.durable:
            await self._end_pending()

    async def _end_pending(self) -> None:
        try:
            count = await self._dispatcher.end_pending()
        except HodeiError:
            logger.exception("pending jobs could not be cancelled", extra={"action": "shutdown"})
            return
        if count:
            logger.warning(
                "%d pending jobs were cancelled, since their memory store closed",
                count,
                extra={"action": "shutdown"},
            )

    async def _wait(self) -> None:
        """Wait for what runs, and with a memory store for what waits; as long as allowed."""
        if self._timeout is not None:
            self._deadlines.after(
                self._timeout.total_seconds(), lambda: self._request_stop(Stop.AT_ONCE)
            )
        if self._store.durable:
            self._dispatcher.draining = True
        met = self._idle if self._dispatcher.draining else self._quiet
        await self._dispatcher.until(met)

    async def _idle(self) -> bool:
        return self._how() is Stop.BROKEN or not self._dispatcher.running

    async def _quiet(self) -> bool:
        try:
            return self._how() is not Stop.NORMALLY or await nothing_left(self._store)
        except HodeiError as error:  # asked again soon, unless it is to stop at once by then
            logger.warning("the store could not count its jobs: %s", error)
            self._deadlines.after(_STORE_PAUSE, self._dispatcher.tell_watchers)
            return False
