"""The workers of this host: how many there are, of which provider, and when they go."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

import anyio

from hodei_core.clock import Clock
from hodei_core.errors import ProvisionError
from hodei_core.events import ProviderRecovered, ProviderTripped, WorkerEvent
from hodei_core.ids import HostId, IdSource, WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import (
    Change,
    ProviderHost,
    PutWorker,
    RemoveWorker,
    Store,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.resources import Resources
from hodei_core.runtime.deadlines import Deadline, Deadlines
from hodei_core.runtime.event_bus import EventBus
from hodei_core.runtime.fleet_view import SchedulerView
from hodei_core.runtime.interrupts import Start
from hodei_core.runtime.member import Member, MemberHost
from hodei_core.runtime.patience import insist
from hodei_core.runtime.provided import Provided
from hodei_core.runtime.retirement import Retirement
from hodei_core.runtime.slot import Slot
from hodei_core.scheduling.index import WorkerIndex
from hodei_core.stats import ProviderStats
from hodei_core.workers import Offer, Worker

logger: logging.Logger = logging.getLogger(__name__)

_CANCEL_SECONDS = 10.0  # that providers may take to notice that a worker is not wanted any more
_CLOSE_SECONDS = 60.0  # that a provider may take to close; as its port says
_ROW_SECONDS = 2.0  # that the rows of the last workers may take to be written


class FleetHost(MemberHost, Protocol):
    """What the fleet needs of its host."""

    def fleet_changed(self) -> None:
        """Take note that a worker came or went, or a provider can be asked again."""

    def fail(self, error: BaseException) -> None:
        """Break, loudly: something of ours failed by a bug."""


class Fleet:
    """Has workers made and ended.

    A worker counts from the intent to make it until its provider is certain that it is gone.
    """

    def __init__(
        self,
        providers: Sequence[WorkerProvider],
        *,
        store: Store,
        clock: Clock,
        deadlines: Deadlines,
        bus: EventBus,
        ids: IdSource,
        host_id: HostId,
        host: FleetHost,
    ) -> None:
        self.host_id: HostId = host_id
        """The incarnation that new workers belong to."""

        self.index: WorkerIndex = WorkerIndex()
        self.clock: Clock = clock
        self.deadlines: Deadlines = deadlines
        self.host: MemberHost = host
        self.closing: bool = False
        self.resting: bool = False
        """Whether nothing is provisioned, not even what is to be kept warm."""

        self.recording: bool = True
        """Whether its close waits for the rows of the last workers to be written."""

        self._given = tuple(providers)
        self._provided: dict[str, Provided] = {}
        self.view: SchedulerView = SchedulerView(self.index, self._provided)
        self._opened: list[WorkerProvider] = []
        self._members: dict[WorkerId, Member] = {}
        self._lines: dict[int, Member] = {}  # by the identity of their sessions
        self._store = store
        self._bus = bus
        self._ids = ids
        self._fleet_host = host
        self._start: Start | None = None
        self._opening = True
        self._first_error: Exception | None = None
        self._uses = 0
        self._obstacles: dict[str, Deadline] = {}
        self._moved = anyio.Event()
        self._closed = anyio.Event()
        self._unclosed: dict[str, None] = {}
        """Providers whose close failed."""

        self._retirement = Retirement(
            index=self.index, clock=clock, deadlines=deadlines, drain=self._drain
        )

    # What there is

    @property
    def others_could_tell(self) -> bool:
        """Whether another host may yet find out what became of an attempt."""
        return self._store.durable

    def members(self) -> list[Member]:
        """Return every worker that is there, on its way or going, oldest first."""
        return list(self._members.values())

    def loss_of(self, worker_id: WorkerId) -> str | None:
        """Return how a worker that is not gone yet was lost; None if it was not."""
        member = self._members.get(worker_id)
        return None if member is None else member.loss

    def stats(self) -> dict[str, ProviderStats]:
        """Return the figures of every provider."""
        busy = Counter(
            worker.offer.provider
            for worker in self.index.workers()
            if worker.taking and not worker.slots_free
        )
        return {name: provided.stats(busy[name]) for name, provided in self._provided.items()}

    # What the dispatcher does

    def may_hold(self, worker_id: WorkerId) -> bool:
        """Return whether a worker may be reserved for a job that is not stored yet.

        One that is there for some jobs only would count one that is then refused.
        """
        provided = self._provided[self._members[worker_id].offer.provider]
        return provided.policy.max_jobs is None

    def reserve(self, worker_id: WorkerId, job: Job) -> None:
        """Take a slot and resources of a worker for a job.

        Raises:
            ValueError: it has no room.
        """
        self.index.reserve(worker_id, job.spec.resources, job.spec.name)
        member = self._members[worker_id]
        provided = self._provided[member.offer.provider]
        if not member.given:
            provided.breaker.proved()
        member.given += 1
        if self._has_had_all(member):
            self.index.stop(member.id)  # drained when this assignment is stored, not before

    def release(self, worker_id: WorkerId, resources: Resources) -> bool:
        """Give a slot and resources back; return whether another job might have them."""
        self.index.release(worker_id, resources)
        member = self._members.get(worker_id)
        if member is None or worker_id not in self.index:
            return False
        if member.serving and self._has_had_all(member):
            self._drain(member)
        if self.index[worker_id].slots_used == 0:
            if not member.serving:
                member.end()
                return False
            self._retirement.arm(self._provided[member.offer.provider])
        return member.serving

    def take_slot(self, worker_id: WorkerId) -> Slot | None:
        """Return an idle slot of a worker, which is then no longer listed as idle."""
        member = self._members.get(worker_id)
        if member is None:
            return None
        slot = member.take_slot()
        if member.serving and self._has_had_all(member):
            self._drain(member)
        return slot

    def put_slot(self, worker_id: WorkerId, slot: Slot) -> None:
        """List a slot as idle."""
        member = self._members.get(worker_id)
        if member is not None:
            member.put_slot(slot)

    def provision(self, name: str) -> Offer | None:
        """Have a provider make a worker, in a task of its own.

        Returns what the worker will have; None if the provider cannot be asked now.
        """
        provided = self._provided.get(name)
        if provided is None or not provided.askable or self.closing or self.resting:
            return None
        assert self._start is not None, "the fleet is open"  # noqa: S101
        member = Member(
            self._ids.worker_id(name), provided.provider, provided.offer, provided.policy, self
        )
        provided.members[member.id] = self._members[member.id] = member
        provided.breaker.asked(member.begun)
        provided.rate.started(member.begun)
        self._uses += 1
        provided.last_used = self._uses
        self.view.changed()
        self._arm_obstacle(name, provided)
        self._start(self._live, member, name=f"hodei worker {member.id}")
        return provided.offer

    def rest(self, resting: bool) -> None:
        """Provision nothing, or do so again."""
        self.resting = resting
        if not resting:
            self._keep_warm()

    # Its life

    async def open(self, host: ProviderHost) -> None:
        """Open the providers.

        Raises:
            ProvisionError: one of them cannot work here.
        """
        for provider in self._given:
            await provider.open(host)
            self._opened.append(provider)
            provided = Provided(provider, self.clock)
            self._provided[provided.name] = provided
            self.view.opened()

    async def warm_up(self, start: Start) -> None:
        """Make the workers that are kept whether there is work or not.

        Raises:
            Exception: one of them could not be made.
        """
        self._start = start
        self._keep_warm()
        await self._until(lambda: not any(member.arriving for member in self.members()))
        self._opening = False
        if self._first_error is not None:
            raise self._first_error

    def offers(self) -> tuple[Offer, ...]:
        """Return what the workers of each provider have, or would have."""
        return tuple(provided.offer for provided in self._provided.values())

    def renewed(self, host_id: HostId, seconds: float | None) -> None:
        """Tell the providers for how long the host's lease holds; None: as long as it likes."""
        for provided in self._provided.values():
            try:
                provided.provider.renewed(host_id, seconds)
            except Exception:  # whatever a provider's code raises is contained
                logger.exception("a provider could not be told of a lease: %r", provided.provider)

    def provider(self, name: str) -> WorkerProvider | None:
        """Return a provider by its name; None if there is none."""
        provided = self._provided.get(name)
        return None if provided is None else provided.provider

    async def lose_all(self, why: str) -> None:
        """Lose every worker; return when it is certain that nothing is left of them."""
        for member in self.members():
            member.lose(why)
        await self._until(lambda: not self._members)

    async def close(self) -> None:
        """End every worker and close every provider; idempotent."""
        self.closing = True
        wanted = [member for member in self.members() if not member.made]
        for member in wanted:
            member.end()
        making = [member for member in wanted if member.asked]
        with anyio.move_on_after(_CANCEL_SECONDS):
            await self._until(lambda: all(member.made for member in making))
        await self._close_providers()
        if not all(member.made for member in making):
            # What cannot be cancelled is waited for in any case; it must not leave a worker.
            await self._until(lambda: all(member.made for member in making))
            await self._close_providers()
        self._opened.clear()
        self._closed.set()
        for member in self.members():
            member.end()
        with anyio.move_on_after(_ROW_SECONDS if self.recording else 0):
            await self._until(lambda: not self._members)

    async def until_closed(self, provider: str) -> bool:
        """Return when the providers were closed: whether nothing is left of this one's workers."""
        await self._closed.wait()
        return provider not in self._unclosed

    async def _close_providers(self) -> None:
        for provider in reversed(self._opened):
            self._unclosed[provider.offer.provider] = None
            try:
                with anyio.move_on_after(_CLOSE_SECONDS) as scope:
                    await provider.close()
                    del self._unclosed[provider.offer.provider]
                if scope.cancelled_caught:
                    msg = "a provider did not close within %g s, what it made may be left: %r"
                    logger.error(msg, _CLOSE_SECONDS, provider)
            except anyio.get_cancelled_exc_class():
                if anyio.current_effective_deadline() == -math.inf or (
                    await self.host.cancelled_by_loop()
                ):
                    raise
                logger.exception("a provider could not be closed: %r", provider)
            except (KeyboardInterrupt, SystemExit) as error:
                self._fleet_host.escape(error)
            except BaseException:  # whatever a provider's code raises is contained
                logger.exception("a provider could not be closed: %r", provider)

    async def _until(self, met: Callable[[], bool]) -> None:
        while not met():
            if self._moved.is_set():  # else somebody waits for it already
                self._moved = anyio.Event()
            await self._moved.wait()

    def _keep_warm(self) -> None:
        for name, provided in self._provided.items():
            while provided.missing > 0 and self.provision(name):
                pass

    async def _live(self, member: Member) -> None:
        try:
            await member.live()
        except Exception as error:
            self._fleet_host.fail(error)

    # When workers go

    def _has_had_all(self, member: Member) -> bool:
        """Return whether a worker was given as many jobs as it may have."""
        most = self._provided[member.offer.provider].policy.max_jobs
        return most is not None and member.given >= most

    def _drain(self, member: Member) -> None:
        """Give a worker no more; end it when it is idle."""
        self.index.stop(member.id)
        member.drain()
        if self.index[member.id].slots_used == 0:
            member.end()
        self._changed()

    # What its workers tell it

    async def keep_row(self, worker: Worker) -> None:
        """Store what is known of a worker."""
        await self._write(PutWorker(worker))

    async def drop_row(self, worker_id: WorkerId) -> None:
        """Forget a stored worker."""
        await self._write(RemoveWorker(worker_id))

    def claim(self, session: WorkerSession, member: Member) -> bool:
        """Take note of the line to a worker; return whether it is no other worker's."""
        return self._lines.setdefault(id(session), member) is member

    def answered(self, member: Member) -> None:
        """Take note that a provider answered, or is asked for the worker no longer."""
        if member.session is None:
            self._give_up(member)
        self._moved.set()

    def ready(self, member: Member) -> None:
        """Take note that the worker takes work; its row is stored."""
        provided = self._provided[member.offer.provider]
        provided.startup = timedelta(seconds=member.ready - member.begun)
        self.index.add(member.id, member.offer)
        self._retirement.arm(provided)
        if provided.breaker.succeeded():
            logger.info(
                "provider %s makes workers again",
                provided.name,
                extra={"provider": provided.name, "action": "recovered"},
            )
            self._bus.publish(
                ProviderRecovered(
                    at=self.clock.now(), provider=provided.name, message="it made a worker"
                )
            )
        self._changed()

    def failed(self, member: Member, error: BaseException) -> None:
        """Take note that the worker could not be made."""
        provided = self._provided[member.offer.provider]
        provided.last_error = str(error) or repr(error)
        if self._opening:
            self._first_error = self._first_error or _told(error)
        if isinstance(error, ProvisionError) and error.permanent:
            provided.never = provided.last_error
        logger.warning(
            "provider %s could not make a worker: %s",
            provided.name,
            provided.last_error,
            exc_info=None if isinstance(error, ProvisionError) else error,
            extra={"provider": provided.name, "worker_id": member.id, "action": "provision"},
        )
        self._trip(provided, member)

    def stop_giving(self, member: Member) -> None:
        """Take note that the worker is given no more, from this moment on."""
        if member.id in self.index:
            self.index.stop(member.id)

    def left(self, member: Member) -> None:
        """Take note that a worker that was ready takes no more work, lost or as planned."""
        provided = self._provided[member.offer.provider]
        self.index.remove(member.id)
        if member.loss is not None:
            logger.warning(
                "worker %s is lost: %s",
                member.id,
                member.loss,
                extra={"worker_id": member.id, "action": "lost"},
            )
            if not member.given:
                provided.last_error = f"a worker was lost before it was used: {member.loss}"
                self._trip(provided, member)
        self._changed()

    def gone(self, member: Member) -> None:
        """Take note that nothing of the worker is left."""
        self._give_up(member)
        del self._members[member.id]
        if member.session is not None:
            del self._lines[id(member.session)]
        del self._provided[member.offer.provider].members[member.id]
        self._changed()

    def tell(self, event: type[WorkerEvent], member: Member, **more: object) -> None:
        """Publish an event about the worker."""
        self._bus.publish(
            event(at=self.clock.now(), worker_id=member.id, provider=member.offer.provider, **more)
        )

    def _give_up(self, member: Member) -> None:
        """Take note that nobody waits for a worker any more; others were told how it fared."""
        breaker = self._provided[member.offer.provider].breaker
        breaker.gave_up(self.clock.monotonic(), asked_at=member.begun)

    def _trip(self, provided: Provided, member: Member) -> None:
        now, chance = self.clock.monotonic(), self._ids.chance()
        if provided.breaker.failed(now, chance, asked_at=member.begun):
            self._bus.publish(
                ProviderTripped(
                    at=self.clock.now(),
                    provider=provided.name,
                    message=provided.last_error or "it failed",
                )
            )
        self._changed()

    async def _write(self, *changes: Change) -> None:
        async def write() -> None:
            await insist(lambda: self._store.apply(changes), "note a worker")

        await self.host.persist(write)

    def _changed(self) -> None:
        """Have the dispatcher look again, now and when an obstacle is over."""
        self.view.changed()
        self._moved.set()
        if self.closing:
            return
        self._keep_warm()
        for name, provided in self._provided.items():
            self._arm_obstacle(name, provided)
        self._fleet_host.fleet_changed()

    def _arm_obstacle(self, name: str, provided: Provided) -> None:
        armed = self._obstacles.pop(name, None)
        if armed is not None:
            armed.cancel()
        obstacle = provided.obstacle()
        if obstacle is not None and obstacle[1] is not None:
            self._obstacles[name] = self.deadlines.at(obstacle[1], self._changed)


def _told(error: BaseException) -> Exception:
    """Return an error that may be raised to the user; else one that stands for it."""
    if isinstance(error, Exception):
        return error
    told = ProvisionError(str(error) or repr(error))
    told.__cause__ = error
    return told
