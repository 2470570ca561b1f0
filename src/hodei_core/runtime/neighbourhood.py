"""What a host that dispatches does because others share its store: lease and rescue."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from hodei_core.clock import Clock
from hodei_core.errors import HodeiError
from hodei_core.ids import HostId, WorkerId
from hodei_core.ports import HostRegistry, Store
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.dispatcher import Dispatcher
from hodei_core.runtime.fleet import Fleet
from hodei_core.runtime.interrupts import Start
from hodei_core.runtime.membership import Membership
from hodei_core.runtime.rescue import Rescue
from hodei_core.scheduling.needs import Needs

logger: logging.Logger = logging.getLogger(__name__)


class Neighbourhood:
    """Keeps the lease of a host, and rescues what dead hosts left."""

    def __init__(
        self,
        *,
        hosts: HostRegistry,
        store: Store,
        clock: Clock,
        deadlines: Deadlines,
        fleet: Fleet,
        dispatcher: Dispatcher,
        new_id: Callable[[], HostId],
    ) -> None:
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._start: Start | None = None
        self._membership = Membership(
            hosts=hosts, store=store, clock=clock, deadlines=deadlines, host=self, new_id=new_id
        )
        self._rescue = Rescue(
            hosts=hosts,
            store=store,
            clock=clock,
            rescuer=dispatcher,
            provider=fleet.provider,
        )

    def could_run(self, needs: Needs) -> bool:
        """Return whether another live host offers what jobs with these needs want."""
        return self._membership.could_run(needs)

    def loss_of(self, worker_id: WorkerId) -> str | None:
        """Return what keeps the worker of a dead host from being ended; None if nothing does."""
        obstacle = self._rescue.obstacle(worker_id)
        return None if obstacle is None else f"its host is dead, and {obstacle}"

    async def join(self, host_id: HostId) -> None:
        """Register the host, whose providers are open.

        Raises:
            HodeiError: the store refuses.
        """
        await self._membership.join(host_id, self._fleet.offers())

    def loops(self, start: Start) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return what is to run as long as the host does; it starts tasks of its own."""
        self._start = start
        return {"membership": self._membership.run, "death watch": self._membership.watch}

    def close(self) -> None:
        """Tell the others that this host takes no more work."""
        self._membership.close()

    async def leave(self) -> None:
        """Take the host off the register: it has ended all that it ran."""
        try:
            await self._membership.leave()
        except HodeiError as error:
            logger.warning("the host could not be taken off the register: %s", error)

    # What the membership asks

    async def give_up(self) -> None:
        """End all that runs here, since the lease is gone; return when nothing runs."""
        self._dispatcher.pause(True)
        await self._fleet.lose_all("the lease of its host was gone")

    def renewed(self, host_id: HostId, seconds: float | None) -> None:
        """Have the providers know how long the lease holds; None: nobody else is there."""
        self._fleet.renewed(host_id, seconds)

    def new_incarnation(self, host_id: HostId) -> None:
        """Go on under another id."""
        self._fleet.host_id = host_id
        self._dispatcher.pause(False)
        self._dispatcher.look_at_all()

    def others_changed(self) -> None:
        """Look at the store again: what the host that went had covered is anybody's now."""
        self._dispatcher.look_at_all()

    async def rescue(self) -> None:
        """Take care of what hosts that are not registered have left."""
        assert self._start is not None, "the loops run"  # noqa: S101
        await self._rescue.look(self._start)
