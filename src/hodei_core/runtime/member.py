"""One worker of the fleet, from the intent to make it until it is certain that it is gone."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol

import anyio

from hodei_core.clock import Clock
from hodei_core.errors import ProvisionError
from hodei_core.events import (
    WorkerDraining,
    WorkerEvent,
    WorkerLost,
    WorkerProvisioning,
    WorkerReady,
    WorkerTerminated,
)
from hodei_core.ids import HostId, WorkerId
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import WorkerProvider, WorkerSession
from hodei_core.retry import Backoff
from hodei_core.runtime.deadlines import Deadline, Deadlines
from hodei_core.runtime.interrupts import starter
from hodei_core.runtime.slot import Slot, SlotHost
from hodei_core.workers import Offer, Worker, WorkerState

logger: logging.Logger = logging.getLogger(__name__)

_LOSS_SECONDS = 5.0  # that the attempts of a lost worker have to notice it
_BEATS = 3  # heartbeats within a lease
_PAUSE = Backoff(first=timedelta(milliseconds=200), max=timedelta(seconds=30), jitter=0)


class MemberHost(SlotHost, Protocol):
    """What a worker needs of its host."""

    async def persist(self, run: Callable[[], Awaitable[None]]) -> None:
        """Await `run` to its end, even if the event loop itself cancels it."""


class MemberFleet(Protocol):
    """What a worker tells its fleet, and asks it for."""

    @property
    def host(self) -> MemberHost:
        """The host of the fleet."""

    @property
    def host_id(self) -> HostId:
        """The incarnation of the host that the worker belongs to."""

    @property
    def clock(self) -> Clock:
        """The clock of the host."""

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of the host."""

    @property
    def closing(self) -> bool:
        """Whether the host ends all its workers."""

    async def keep_row(self, worker: Worker) -> None:
        """Store what is known of a worker."""

    async def drop_row(self, worker_id: WorkerId) -> None:
        """Forget a stored worker."""

    def answered(self) -> None:
        """Take note that a provider answered."""

    def ready(self, member: Member) -> None:
        """Take note that the worker takes work; its row is stored."""

    def failed(self, member: Member, error: BaseException) -> None:
        """Take note that the worker could not be made."""

    def left(self, member: Member) -> None:
        """Take note that a worker that was ready takes no more work, lost or as planned."""

    def gone(self, member: Member) -> None:
        """Take note that nothing of the worker is left."""

    def tell(self, event: type[WorkerEvent], member: Member, **more: object) -> None:
        """Publish an event about the worker."""


class Member:
    """A worker of this host. One task runs `live`, from the intent to the end."""

    def __init__(
        self,
        worker_id: WorkerId,
        provider: WorkerProvider,
        offer: Offer,
        policy: WorkerPolicy,
        fleet: MemberFleet,
    ) -> None:
        self.id: WorkerId = worker_id
        self.host_id: HostId = fleet.host_id
        self.offer: Offer = offer
        self.state: WorkerState = WorkerState.PROVISIONING
        self.overdue: bool = False
        """Whether its making has taken too long: nobody counts on it any more."""

        self.made: bool = False
        """Whether its provider has answered, or was asked no longer."""

        self.begun_at: datetime = fleet.clock.now()
        self.begun: float = fleet.clock.monotonic()
        self.ready: float = 0.0
        """When it became ready, by the monotonic clock."""

        self.freed: float = 0.0
        """When its last slot was freed, or it became ready, by the monotonic clock."""

        self.given: int = 0
        """The attempts that it was given."""

        self.loss: str | None = None
        """How it was lost; None if it was not."""

        self._provider = provider
        self._policy = policy
        self._fleet = fleet
        self._ready_at: datetime | None = None
        self._idle: list[Slot] = []
        self._asking: anyio.CancelScope | None = None
        self._line: anyio.CancelScope | None = None
        self._over = anyio.Event()
        self._silence: Deadline
        self._ending = False

    @property
    def arriving(self) -> bool:
        """Whether it is being made, and counted on."""
        return self.state is WorkerState.PROVISIONING and not self.overdue

    @property
    def serving(self) -> bool:
        """Whether it takes work."""
        return self.state is WorkerState.READY

    def row(self) -> Worker:
        """Return what is stored of it."""
        return Worker(
            id=self.id,
            provider=self.offer.provider,
            state=self.state,
            slots=self.offer.slots,
            resources=self.offer.resources,
            labels=self.offer.labels,
            image=self.offer.image,
            ready_at=self._ready_at,
            host_id=self.host_id,
        )

    def take_slot(self) -> Slot | None:
        """Return an idle slot, which is then no longer idle; None if there is none."""
        return self._idle.pop() if self._idle else None

    def put_slot(self, slot: Slot) -> None:
        """Take back a slot that is idle again."""
        self._idle.append(slot)
        self.freed = self._fleet.clock.monotonic()

    def drain(self) -> None:
        """Take no more work; who calls this has seen to it that none is given."""
        if self.state is WorkerState.READY:
            self.state = WorkerState.DRAINING
            self._fleet.tell(WorkerDraining, self)

    def lose(self, why: str) -> None:
        """Be lost, with all that runs on it."""
        if self.state is WorkerState.PROVISIONING:
            self.end()
        else:
            self._lose(why)

    def end(self) -> None:
        """Be ended: it is idle, or its host closes."""
        self._ending = True
        self._over.set()
        if self._asking is not None:
            self._asking.cancel()

    # Its life

    async def live(self) -> None:
        """Be made, serve, and be ended; return when nothing is left."""
        await self._fleet.keep_row(self.row())
        self._fleet.tell(WorkerProvisioning, self)
        session = await self._make()
        self._fleet.answered()
        if session is None or self.overdue:
            self.state = WorkerState.TERMINATING
            await self._until(lambda: self._provider.discard(self.id))
        else:
            await self._serve(session)
        await self._fleet.drop_row(self.id)
        self._fleet.gone(self)

    async def _make(self) -> WorkerSession | None:
        """Have the provider make it; return the line to it, None if it could not."""
        timeout = self._policy.startup_timeout.total_seconds()
        deadline = self._fleet.deadlines.after(timeout, self._take_too_long)
        session: WorkerSession | None = None
        error: BaseException | None = None
        with anyio.CancelScope() as self._asking:
            if self._ending:
                self._asking.cancel()
            try:
                session = _checked(await self._provider.provision(self.id))
            except anyio.get_cancelled_exc_class() as cancelled:
                if anyio.current_effective_deadline() == -math.inf:
                    raise
                error = cancelled
            except (KeyboardInterrupt, SystemExit) as escaping:
                self._fleet.host.escape(escaping)
            except BaseException as raised:  # whatever a provider's code raises is contained
                error = raised
        self._asking = None
        self.made = True
        deadline.cancel()
        if error is not None and not self.overdue:
            self._fleet.failed(self, error)
        return session

    def _take_too_long(self) -> None:
        if self._asking is not None and not self._ending:
            self.overdue = True
            self._asking.cancel()
            seconds = self._policy.startup_timeout.total_seconds()
            self._fleet.failed(self, ProvisionError(f"no worker was ready within {seconds:g} s"))

    async def _serve(self, session: WorkerSession) -> None:
        host, clock = self._fleet.host, self._fleet.clock
        slots = [Slot(session, host) for _ in range(self.offer.slots)]
        async with anyio.create_task_group() as tasks:
            start = starter(tasks)
            for slot in slots:
                start(host.persist, slot.serve, name=f"hodei slot of {self.id}")
            start(self._run, session, name=f"hodei line to {self.id}")
            if self._policy.lease is not None:
                start(self._beat, session, name=f"hodei heart of {self.id}")
            self._ready_at = clock.now()
            self.ready = self.freed = clock.monotonic()
            self.state = WorkerState.READY
            await self._fleet.keep_row(self.row())
            self._idle = slots[:]
            self._fleet.ready(self)
            self._fleet.tell(WorkerReady, self)
            await host.persist(self._over.wait)
            await self._leave(session, slots)
            tasks.cancel_scope.cancel()

    async def _leave(self, session: WorkerSession, slots: list[Slot]) -> None:
        """Give up the worker: see to it that no attempt is left on it, and nothing of itself."""
        lost = self.loss is not None
        self.state = WorkerState.LOST if lost else WorkerState.TERMINATING
        self._fleet.left(self)
        if lost:
            self._fleet.tell(WorkerLost, self, message=self.loss)
        await self._fleet.keep_row(self.row())
        if lost and self._line is not None:
            self._line.cancel()  # without it every attempt on the worker ends
        with anyio.move_on_after(_LOSS_SECONDS):
            for slot in slots:
                await slot.until_idle()
        if lost:
            await self._until(lambda: self._provider.discard(self.id))
        else:
            await self._until(session.terminate)
            self.state = WorkerState.TERMINATED
            self._fleet.tell(WorkerTerminated, self)

    async def _run(self, session: WorkerSession) -> None:
        """Serve until the line ends; whatever its code raises is the loss of the worker."""
        with anyio.CancelScope() as self._line:
            await self._fleet.host.persist(lambda: self._contained(session.run))
        self._line = None

    async def _contained(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except anyio.get_cancelled_exc_class():
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._fleet.host.escape(error)
        except BaseException as error:
            self._lose(str(error) or repr(error))
        else:
            self._lose("it ended unasked")

    async def _beat(self, session: WorkerSession) -> None:
        """Ask the worker for a sign of life, several times within its lease."""
        assert self._policy.lease is not None  # noqa: S101 - else nobody asks
        lease = self._policy.lease.total_seconds()
        while True:
            await self._fleet.clock.sleep(lease / _BEATS)
            self._listen(lease)
            try:
                await session.heartbeat()
            except Exception as error:
                self._lose(str(error) or repr(error))
                return
            finally:
                self._silence.cancel()

    def _listen(self, lease: float) -> None:
        """Lose the worker if it does not answer; if our own loop stood still, listen on."""
        until = self._fleet.clock.monotonic() + lease * (1 - 1 / _BEATS)

        def silent() -> None:
            if self._fleet.clock.monotonic() - until > lease / _BEATS:
                self._listen(lease)
            else:
                self._lose(f"it has not answered for {lease:g} s")

        self._silence = self._fleet.deadlines.at(until, silent)

    def _lose(self, why: str) -> None:
        if self.loss is None and not self._ending and not self._fleet.closing:
            self.loss = why
        self._over.set()

    async def _until(self, gone: Callable[[], Awaitable[None]]) -> None:
        """Return when it is certain that nothing is left; ask again and again, or until closed."""
        tries = 0
        while not self._fleet.closing:
            with anyio.CancelScope() as self._asking:
                try:
                    await gone()
                    return
                except Exception as error:
                    tries += 1
                    pause = _PAUSE.pause(tries, 0.5).total_seconds()
                    logger.warning(
                        "worker %s could not be ended, tried again in %s s: %s",
                        self.id,
                        pause,
                        error,
                        extra={"worker_id": self.id, "action": "terminate"},
                    )
                await self._fleet.clock.sleep(pause)


def _checked(session: object) -> WorkerSession:
    if not isinstance(session, WorkerSession):
        msg = f"it answered {session!r}, which is no session"
        raise ProvisionError(msg)
    return session
