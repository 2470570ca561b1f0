"""How a host comes to rest: what it waits for, what it ends, in which order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import anyio

from hodei_core.clock import Clock
from hodei_core.errors import HodeiError, StoreInvalidError
from hodei_core.ports import JobFilter, Store
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.dispatcher import Dispatcher
from hodei_core.runtime.gate import Stop
from hodei_core.runtime.run import SHUTDOWN_GRACE
from hodei_core.states import JobState

logger: logging.Logger = logging.getLogger(__name__)

_STORE_PAUSE = 0.5  # seconds between asks of a store that refuses
_RECORD_SECONDS = 2.0  # that the ends of attempts may take to be written
_NOT_FINAL = JobFilter(states=frozenset(state for state in JobState if not state.is_final))
_MARGIN_SECONDS = 5.0  # beyond the grace, for trees to end and for their ends to be written


async def nothing_left(store: Store) -> bool:
    """Return whether every job of a store is final; one that cannot be read holds up nobody."""
    counts = await store.jobs.counts()
    if not any(count for state, count in counts.items() if not state.is_final):
        return True
    return store.durable and not await store.jobs.select(_NOT_FINAL, limit=1)


class Shutdown:
    """Brings the work of a host to its end, the way that it was told to stop.

    `how` gives the way, which may become a harder one while this runs.
    """

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        deadlines: Deadlines,
        timeout: timedelta | None,
        how: Callable[[], Stop | None],
        request_stop: Callable[[Stop], None],
    ) -> None:
        self.gave_up: bool = False
        """Whether the store was gone when what had ended was to be recorded."""

        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._deadlines = deadlines
        self._timeout = timeout
        self._how = how
        self._request_stop = request_stop
        self._gone_since: float | None = None
        self._looking = False

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
        if self._dispatcher.running:
            logger.error(
                "how %d attempts ended could not be recorded%s",
                self._dispatcher.running,
                ": the store is gone" if self.gave_up else "",
                extra={"action": "shutdown"},
            )
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

        async def waited() -> bool:
            return self._how() is not Stop.NORMALLY or await met()

        await self._dispatcher.until(waited)

    async def _idle(self) -> bool:
        if self._how() is Stop.BROKEN or not self._dispatcher.running:
            return True
        if self._store.durable and not self.gave_up:
            await self._look_for_store()
        return self.gave_up

    async def _look_for_store(self) -> None:
        """Give up, if the store is gone for longer than recording what ended may take.

        Looks by itself from now on: a dispatcher that asks a store again and again takes no step.
        """
        if not self._looking:
            self._looking = True
            self._deadlines.after(_STORE_PAUSE, self._look_again)
        error = None if self._dispatcher.executing else await self._loss()
        if error is None:
            self._gone_since = None
            return
        now = self._clock.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since >= _RECORD_SECONDS:
            self.gave_up = True
            logger.error("leaving without the store: %s", error, extra={"action": "shutdown"})

    def _look_again(self) -> None:
        self._looking = False
        self._dispatcher.tell_watchers()

    async def _loss(self) -> HodeiError | None:
        """Return what the store says if it is gone, and not just out of order for a while."""
        try:
            await self._store.jobs.counts()
        except StoreInvalidError as error:
            return error if error.gone else None
        except HodeiError:
            return None
        return None

    async def _quiet(self) -> bool:
        try:
            return await nothing_left(self._store)
        except HodeiError as error:  # asked again soon, unless it is to stop at once by then
            logger.warning("the store could not count its jobs: %s", error)
            self._deadlines.after(_STORE_PAUSE, self._dispatcher.tell_watchers)
            return False
