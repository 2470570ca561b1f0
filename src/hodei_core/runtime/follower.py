"""Follows what others write to a shared store."""

from __future__ import annotations

import logging

from hodei_core.clock import Clock
from hodei_core.errors import HodeiError, StoreInvalidError
from hodei_core.ports import HostRegistry
from hodei_core.runtime.dispatcher import Dispatcher

logger: logging.Logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5  # before a store that refuses is asked again


class Follower:
    """Has the dispatcher look at the store whenever others have written."""

    def __init__(self, *, hosts: HostRegistry, clock: Clock, dispatcher: Dispatcher) -> None:
        self._hosts = hosts
        self._clock = clock
        self._dispatcher = dispatcher

    async def run(self) -> None:
        """Follow, for ever."""
        refused = ""
        while True:
            try:
                await self._hosts.others_wrote()
                refused = ""
            except HodeiError as error:
                if refused != str(error):
                    refused = str(error)
                    logger.warning("what other hosts wrote could not be read: %s", error)
                if isinstance(error, StoreInvalidError) and error.gone:
                    self._dispatcher.store_gone()
                await self._clock.sleep(_RETRY_SECONDS)
            self._dispatcher.others_wrote()

    async def catch_up(self) -> None:
        """Return when the dispatcher has looked at what was written up to now."""

        async def looked() -> bool:
            return not self._dispatcher.behind

        self._dispatcher.others_wrote()
        await self._dispatcher.until(looked)
