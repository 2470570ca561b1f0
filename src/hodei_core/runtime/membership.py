"""This host among those that share its store: its lease, and which of the others are dead."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import anyio
import attrs

from hodei_core.clock import Clock
from hodei_core.errors import HodeiError
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId
from hodei_core.ports import Change, HostRegistry, JoinHost, RemoveHost, RenewHost, Store
from hodei_core.runtime.deadlines import Deadline, Deadlines
from hodei_core.runtime.patience import insist
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer

logger: logging.Logger = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""How long a host that does not renew its lease counts as alive."""

_RENEWALS = 3  # within a lease
_MARGIN_SECONDS = 2.0  # before the end of its lease, that a host which cannot renew it gives up
_LOOK_SECONDS = 2.0  # between looks at the others
_RETRY_SECONDS = 0.5  # before a store that refuses is asked again
_ROUND_SECONDS = 20.0  # after which all is looked at anew, whether anybody came or went or not


class MembershipHost(Protocol):
    """What the membership needs of its host."""

    async def give_up(self) -> None:
        """End all that runs here, since the lease is gone; return when nothing runs."""

    def renewed(self, host_id: HostId, seconds: float | None) -> None:
        """Take note that the lease holds for so long; None: nobody else is there."""

    def new_incarnation(self, host_id: HostId) -> None:
        """Go on under another id."""

    async def rescue(self) -> None:
        """Take care of what hosts that are not registered have left."""

    def others_changed(self) -> None:
        """Take note that a host came, or went with what it had covered."""


class _Other:
    """Another host, as it was seen here."""

    __slots__ = ("age", "record")

    def __init__(self, record: HostRecord) -> None:
        self.record = record
        self.age = 0.0
        """Seconds for which its beat has stood still, while we were looking."""


class Membership:
    """Renews the lease of this host, gives up in time if it cannot, and notices who is dead.

    A host is dead when the store can prove it, else when its beat has stood still for a lease,
    by our own monotonic clock and only as long as we looked: no clock is compared with
    another's, so one that jumps, or a machine that slept, makes nobody dead.
    """

    def __init__(
        self,
        *,
        hosts: HostRegistry,
        store: Store,
        clock: Clock,
        deadlines: Deadlines,
        host: MembershipHost,
        new_id: Callable[[], HostId],
    ) -> None:
        self._hosts = hosts
        self._store = store
        self._clock = clock
        self._deadlines = deadlines
        self._host = host
        self._new_id = new_id
        self._record: HostRecord | None = None
        self._registered: list[HostId] = []
        """The incarnations that may be on the register, as far as was answered."""

        self._others: dict[HostId, _Other] = {}
        self._looked_at = 0.0
        self._round_at = 0.0
        self._others_moved = True
        """Whether a host came or went since what they left was looked at."""

        self._ends_at = 0.0
        """When our own lease is over, by the monotonic clock."""

        self._lease: Deadline | None = None
        self._sleeping: anyio.CancelScope | None = None
        self._lost = False
        self._renew_at = 0.0
        self._closing = False
        self._left = False

    @property
    def alone(self) -> bool:
        """Whether no other host was there when we looked last."""
        return not self._others

    def could_run(self, needs: Needs) -> bool:
        """Return whether another live host offers what jobs with these needs want."""
        return any(
            mismatch(needs, offer) is None
            for other in self._others.values()
            for offer in other.record.offers
        )

    async def join(self, host_id: HostId, offers: tuple[Offer, ...]) -> None:
        """Register this host.

        Raises:
            HodeiError: the store refuses.
        """
        record = HostRecord(id=host_id, offers=offers)
        began = self._clock.monotonic()
        await self._store.apply([JoinHost(record)])
        self._registered = [host_id]
        self._record = record
        self._looked_at = self._clock.monotonic()
        self._lost = False
        self._hold_from(began)

    async def leave(self) -> None:
        """Take this host off the register; what it left would be rescued by others."""
        self._left = True
        if self._lease is not None:
            self._lease.cancel()
        self._record = None
        if self._registered:
            await self._store.apply([RemoveHost(host_id) for host_id in self._registered])

    def close(self) -> None:
        """Tell the others that this host takes no more work; what it runs keeps its lease."""
        self._closing = True
        self._renew_at = 0.0
        self._wake()

    def _wake(self) -> None:
        if self._sleeping is not None:
            self._sleeping.cancel()

    async def run(self) -> None:
        """Keep the lease and watch the others', for ever."""
        while True:
            if self._lost:
                await self._rejoin()
            if self._clock.monotonic() >= self._renew_at:
                self._renew_at = self._clock.monotonic() + LEASE_SECONDS / _RENEWALS
                await self._renew()
            if not self._lost:
                await self._look()
            await self._nap()

    async def _nap(self) -> None:
        """Sleep until the next look, or until our own lease is lost."""
        with anyio.CancelScope() as self._sleeping:
            if not self._lost:
                await self._clock.sleep(_LOOK_SECONDS)
        self._sleeping = None

    async def watch(self) -> None:
        """Remove hosts as soon as the store can prove that they are dead, for ever."""
        while True:
            try:
                await self._bury(await self._hosts.deaths())
            except HodeiError as error:
                logger.warning("whether other hosts are dead could not be seen: %s", error)
                await self._clock.sleep(_RETRY_SECONDS)

    async def _bury(self, dead: list[HostId]) -> None:
        records = {record.id: record for record in await self._hosts.select()}
        for host_id in dead:
            if host_id in records:
                await self._remove(records[host_id], "its lock is free")
        await self._see_to_others()

    # Our own lease

    def _hold_from(self, began: float) -> None:
        if self._lease is not None:
            self._lease.cancel()
        self._ends_at = began + LEASE_SECONDS
        self._arm(self._ends_at - _MARGIN_SECONDS)
        self._tell_lease()

    def _tell_lease(self) -> None:
        if self._record is not None:
            left = self._ends_at - self._clock.monotonic()
            self._host.renewed(self._record.id, None if self.alone else left)

    def _arm(self, at: float) -> None:
        self._lease = self._deadlines.at(at, partial(self._cannot_renew, at))

    def _cannot_renew(self, due: float) -> None:
        """Give up before others may think us dead; alone, nobody is there to think so.

        If we ourselves stood still, the store knows whether others did: it is asked first.
        """
        self._lease = None
        now = self._clock.monotonic()
        if now - due > _MARGIN_SECONDS / 2:
            self._arm(now + _MARGIN_SECONDS / 2)
        elif not self.alone:
            self._lose("its lease could not be renewed in time")

    def _lose(self, why: str) -> None:
        if not self._lost and self._record is not None:
            self._lost = True
            self._wake()
            logger.error(
                "this host ends what it runs: %s", why, extra={"action": "lease", "host": why}
            )

    async def _renew(self) -> None:
        record = self._record
        if record is None:
            return
        began = self._clock.monotonic()
        offers = () if self._closing else record.offers
        renewed = attrs.evolve(record, beat=record.beat + 1, offers=offers)
        try:
            (outcome,) = await self._store.apply([RenewHost(renewed)])
        except HodeiError as error:
            logger.warning("the lease could not be renewed: %s", error)
            return
        if not outcome.applied:
            self._lose("another host took it for dead")
            return
        self._record = renewed
        if not self._lost:
            self._hold_from(began)

    async def _rejoin(self) -> None:
        """End what runs, and go on under a new incarnation."""
        old = self._record
        await self._host.give_up()
        if self._left:  # it joins no more
            await anyio.sleep_forever()
        new_id = self._new_id()
        offers = () if old is None else old.offers
        changes: list[Change] = [] if old is None else [RemoveHost(old.id)]
        record = HostRecord(id=new_id, offers=offers)
        changes.append(JoinHost(record))
        self._registered.append(new_id)

        async def join() -> float:
            began = self._clock.monotonic()
            await self._store.apply(changes)
            return began

        began = await insist(join, "register the host")
        self._registered = [new_id]
        self._record = record
        self._lost = False
        self._hold_from(began)
        self._host.new_incarnation(new_id)

    # The others'

    async def _look(self) -> None:
        now = self._clock.monotonic()
        passed, self._looked_at = min(now - self._looked_at, 2 * _LOOK_SECONDS), now
        try:
            records = await self._hosts.select()
        except HodeiError as error:
            logger.warning("the other hosts could not be read: %s", error)
            return
        self._note(records, passed)
        if now >= self._round_at:
            self._others_moved = True
        for other in list(self._others.values()):
            if other.age >= LEASE_SECONDS:
                await self._contained(partial(self._remove, other.record, "its lease ended"))
        await self._see_to_others()

    async def _see_to_others(self) -> None:
        """Look at what others left, if one came or went."""
        if self._others_moved:
            self._others_moved = False
            self._round_at = self._clock.monotonic() + _ROUND_SECONDS
            self._host.others_changed()
            await self._contained(self._host.rescue)

    def _note(self, records: list[HostRecord], passed: float) -> None:
        mine = None if self._record is None else self._record.id
        others: dict[HostId, _Other] = {}
        for record in records:
            if record.id == mine:
                continue
            other = self._others.get(record.id)
            if other is None or other.record.beat != record.beat:
                other = _Other(record)
            else:
                other.age += passed
            others[record.id] = other
        moved = others.keys() != self._others.keys()
        self._others_moved = self._others_moved or moved
        self._others = others
        if moved:
            self._tell_lease()

    async def _remove(self, record: HostRecord, why: str) -> None:
        (outcome,) = await self._store.apply([RemoveHost(record.id, record.beat)])
        if outcome.applied:
            logger.warning("host %s is dead: %s", record.id, why)
            self._others.pop(record.id, None)
            self._others_moved = True
            self._tell_lease()

    async def _contained(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except HodeiError as error:
            self._others_moved = True
            logger.warning("a dead host, or what it left, could not be seen to: %s", error)
