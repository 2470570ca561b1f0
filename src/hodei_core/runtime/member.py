"""One worker of the fleet, from the intent to make it until it is certain that it is gone."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import anyio
import attrs

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
from hodei_core.ports import WorkerLostError, WorkerProvider, WorkerSession
from hodei_core.retry import Backoff
from hodei_core.runtime.deadlines import Deadline, Deadlines
from hodei_core.runtime.interrupts import starter
from hodei_core.runtime.slot import Slot, SlotHost
from hodei_core.workers import Offer, Worker, WorkerState

logger: logging.Logger = logging.getLogger(__name__)

_LOSS_SECONDS = 5.0  # that the attempts of a lost worker have to notice it
_BEATS = 3  # heartbeats within a lease
_LAST_CHANCE = 1 / 6  # of a lease, after it: our own loop may have stood still meanwhile
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

    @property
    def others_could_tell(self) -> bool:
        """Whether another host may yet find out what became of an attempt."""

    async def keep_row(self, worker: Worker) -> None:
        """Store what is known of a worker."""

    async def drop_row(self, worker_id: WorkerId) -> None:
        """Forget a stored worker."""

    def claim(self, session: WorkerSession, member: Member) -> bool:
        """Take note of the line to a worker; return whether it is no other worker's."""

    async def until_closed(self, provider: str) -> bool:
        """Return when the providers were closed: whether nothing is left of this one's workers."""

    def answered(self, member: Member) -> None:
        """Take note that a provider answered, or is asked for the worker no longer."""

    def ready(self, member: Member) -> None:
        """Take note that the worker takes work; its row is stored."""

    def failed(self, member: Member, error: BaseException) -> None:
        """Take note that the worker could not be made."""

    def stop_giving(self, member: Member) -> None:
        """Take note that the worker is given no more, from this moment on."""

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

        self.asked: bool = False
        """Whether its provider was asked for it."""

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

        self.session: WorkerSession | None = None
        """The line to it; None before its provider gave it."""

        self.loss: str | None = None
        """How it was lost; None if it was not."""

        self._provider = provider
        self._policy = policy
        self._fleet = fleet
        self._ready_at: datetime | None = None
        self._idle: list[Slot] = []
        self._asking: anyio.CancelScope | None = None
        self._line: anyio.CancelScope | None = None
        self._turned = anyio.Event()  # draining or over
        self._over = anyio.Event()
        self._gone = anyio.Event()
        """Set when a lost worker is gone outside, or nobody here can see to it any more."""

        self._silence: Deadline
        self._doubt: BaseException | None = None
        self._ending = False
        self._certain = True
        """Whether nothing is left of it outside; if not, its row stays for others to see."""

    @property
    def arriving(self) -> bool:
        """Whether it is being made, and counted on."""
        return self.state is WorkerState.PROVISIONING and not self.overdue

    @property
    def serving(self) -> bool:
        """Whether it takes work."""
        return self.state is WorkerState.READY and not self._over.is_set()

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
        """Return an idle slot, which is then no longer idle; None if none serves any more."""
        return self._idle.pop() if self._idle and not self._over.is_set() else None

    def put_slot(self, slot: Slot) -> None:
        """Take back a slot that is idle again."""
        self._idle.append(slot)
        self.freed = self._fleet.clock.monotonic()

    def drain(self) -> None:
        """Take no more work; who calls this has seen to it that none is given."""
        if self.serving:
            self.state = WorkerState.DRAINING
            self._turned.set()

    def lose(self, why: str) -> None:
        """Be lost, with all that runs on it."""
        if self.state is WorkerState.PROVISIONING:
            self.end()
        else:
            self._lose(why)

    def end(self) -> None:
        """Be ended: it is idle, or its host closes."""
        self.drain()
        self._ending = True
        self._stop_serving()
        if self._asking is not None:
            self._asking.cancel()

    def _stop_serving(self) -> None:
        self._over.set()
        self._turned.set()

    # Its life

    async def live(self) -> None:
        """Be made, serve, and be ended; return when nothing is left."""
        await self._fleet.keep_row(self.row())
        if self._ending:  # nobody needs to be asked for it
            self.state = WorkerState.TERMINATED
            self._fleet.answered(self)
            await self._fleet.drop_row(self.id)
            self._fleet.gone(self)
            return
        self.asked = True
        self._fleet.tell(WorkerProvisioning, self)
        session = await self._make()
        self._fleet.answered(self)
        if session is None or self.overdue:
            self.state = WorkerState.TERMINATING
            await self._fleet.keep_row(self.row())
            await self._until(lambda: self._provider.discard(self.id))
            self.state = WorkerState.TERMINATED
            self._fleet.tell(WorkerTerminated, self)
        else:
            await self._serve(session)
        if self._certain:
            await self._fleet.drop_row(self.id)
        self._fleet.gone(self)

    async def _make(self) -> WorkerSession | None:
        """Have the provider make it; return the line to it, None if it could not."""
        timeout = self._policy.startup_timeout.total_seconds()
        deadline = self._fleet.deadlines.after(timeout, self._take_too_long)
        session: WorkerSession | None = None
        error: BaseException | None = None

        async def ask() -> None:
            nonlocal session
            session = self._checked(await self._provider.provision(self.id))

        with anyio.CancelScope() as self._asking:
            if self._ending:
                self._asking.cancel()
            error = await self._raised_by(ask)
        self._asking = None
        self.made = True
        deadline.cancel()
        if error is not None and not self.overdue:
            self._fleet.failed(self, error)
        return session

    def _checked(self, session: object) -> WorkerSession:
        if not isinstance(session, WorkerSession):
            msg = f"it answered {session!r}, which is no session"
            raise ProvisionError(msg)
        if not self._fleet.claim(session, self):
            msg = "it answered with the line to another worker"
            raise ProvisionError(msg)
        self.session = session
        return session

    async def _raised_by(self, call: Callable[[], Awaitable[None]]) -> BaseException | None:
        """Await what a provider's code does; return what it raises, whatever that is."""
        try:
            await call()
        except anyio.get_cancelled_exc_class() as cancelled:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            return cancelled
        except (KeyboardInterrupt, SystemExit) as escaping:
            self._fleet.host.escape(escaping)
            return escaping
        except BaseException as error:
            return error
        return None

    def _take_too_long(self) -> None:
        if self._asking is not None and not self._ending:
            self.overdue = True
            self._asking.cancel()
            seconds = self._policy.startup_timeout.total_seconds()
            self._fleet.failed(self, ProvisionError(f"no worker was ready within {seconds:g} s"))

    async def _serve(self, session: WorkerSession) -> None:
        host, clock = self._fleet.host, self._fleet.clock
        slots = [Slot(session, host, self._until_gone) for _ in range(self.offer.slots)]
        async with anyio.create_task_group() as tasks:
            start = starter(tasks)
            for slot in slots:
                start(host.persist, slot.serve, name=f"hodei slot of {self.id}")
            start(self._run, session, name=f"hodei line to {self.id}")
            if self._policy.lease is not None:
                start(host.persist, partial(self._beat, session), name=f"hodei heart of {self.id}")
            self._ready_at = clock.now()
            self.ready = self.freed = clock.monotonic()
            try:
                await self._take_work(slots)
                await self._leave(session, slots)
            except BaseException:
                self._certain = False
                raise
            finally:
                self._gone.set()  # nobody waits for what will not come
            tasks.cancel_scope.cancel()

    async def _take_work(self, slots: list[Slot]) -> None:
        """Tell that the worker is ready; return when it is to be ended, or is lost."""
        # It arrives until its row is stored: nobody else takes it for there or for missing.
        await self._fleet.keep_row(attrs.evolve(self.row(), state=WorkerState.READY))
        self.state = WorkerState.READY
        self._idle = slots[:]
        if not self._over.is_set():
            self._fleet.ready(self)
            self._fleet.tell(WorkerReady, self)
        await self._fleet.host.persist(self._turned.wait)
        if self.state is WorkerState.DRAINING:
            if not self._over.is_set():
                await self._fleet.keep_row(self.row())
            self._fleet.tell(WorkerDraining, self)
            await self._fleet.host.persist(self._over.wait)

    async def _leave(self, session: WorkerSession, slots: list[Slot]) -> None:
        """Give up the worker: see to it that no attempt is left on it, and nothing of itself."""
        lost = self.loss is not None
        self.state = WorkerState.LOST if lost else WorkerState.TERMINATING
        self._fleet.left(self)
        if lost:
            self._fleet.tell(WorkerLost, self, message=self.loss)
        await self._fleet.keep_row(self.row())
        if lost:
            # First, so that no attempt is made again while its old execution may live.
            await self._until(lambda: self._provider.discard(self.id))
            self._gone.set()
            if self._line is not None:
                self._line.cancel()  # without it every attempt on the worker ends
        await self._fleet.host.persist(partial(_until_idle, slots))
        if not lost:
            await self._until(session.terminate)
            self.state = WorkerState.TERMINATED
            self._fleet.tell(WorkerTerminated, self)

    async def _until_gone(self, why: str) -> bool:
        """Be lost; return when nothing is left outside, and whether that is certain."""
        self._lose(why)
        await self._gone.wait()
        return self._certain or not self._fleet.others_could_tell

    async def _run(self, session: WorkerSession) -> None:
        """Serve until the line ends; whatever its code raises is the loss of the worker."""
        with anyio.CancelScope() as self._line:
            await self._fleet.host.persist(lambda: self._contained(session.run))
        self._line = None

    async def _contained(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf or (
                await self._fleet.host.cancelled_by_loop()
            ):
                raise
            self._lose("its line was cancelled by its own code")
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
        self._listen(lease, lease)
        try:
            while True:
                await self._fleet.clock.sleep(lease / _BEATS)
                self._doubt = await self._raised_by(session.heartbeat)
                if isinstance(self._doubt, WorkerLostError):
                    self._lose(str(self._doubt) or repr(self._doubt))
                    return
                if self._doubt is None:
                    self._silence.cancel()
                    self._listen(lease, lease)
        finally:
            self._silence.cancel()

    def _listen(self, lease: float, seconds: float, *, last: bool = False) -> None:
        """Lose the worker if it does not answer for so long, and after that in a last chance.

        Without one a loop of ours that stood still would lose what had no time to answer.
        """
        chance = lease * _LAST_CHANCE
        until = self._fleet.clock.monotonic() + seconds

        def silent() -> None:
            if not last or self._fleet.clock.monotonic() - until > chance:
                self._listen(lease, chance, last=True)
                return
            why = "" if self._doubt is None else f": {self._doubt!r}"
            self._lose(f"it has not answered for {lease:g} s{why}")

        self._silence = self._fleet.deadlines.at(until, silent)

    def _lose(self, why: str) -> None:
        if self.loss is None and not self._ending and not self._fleet.closing:
            self.loss = why or "it is gone"
            self._fleet.stop_giving(self)
        self._stop_serving()

    async def _until(self, gone: Callable[[], Awaitable[None]]) -> None:
        """Return when it is certain that nothing is left; ask again and again, or until closed."""
        await self._fleet.host.persist(partial(self._ask_until, gone))

    async def _ask_until(self, gone: Callable[[], Awaitable[None]]) -> None:
        tries = 0
        while not self._fleet.closing:
            with anyio.CancelScope() as self._asking:
                error = await self._raised_by(gone)
                if error is None:
                    return
                tries += 1
                pause = _PAUSE.pause(tries, 0.5).total_seconds()
                logger.warning(
                    "worker %s could not be ended, tried again in %s s: %r",
                    self.id,
                    pause,
                    error,
                    extra={"worker_id": self.id, "action": "terminate"},
                )
                await self._fleet.clock.sleep(pause)
        self._certain = await self._fleet.until_closed(self.offer.provider)


async def _until_idle(slots: list[Slot]) -> None:
    with anyio.move_on_after(_LOSS_SECONDS):
        for slot in slots:
            await slot.until_idle()
