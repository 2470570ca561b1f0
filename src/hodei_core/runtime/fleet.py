"""The workers of this host: made, served, and let go."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import anyio
import attrs

from hodei_core.clock import Clock
from hodei_core.errors import ProvisionError
from hodei_core.events import (
    ProviderRecovered,
    ProviderTripped,
    WorkerLost,
    WorkerProvisioning,
    WorkerReady,
    WorkerTerminated,
)
from hodei_core.ids import IdSource, WorkerId
from hodei_core.ports import (
    Change,
    ProviderHost,
    PutWorker,
    RemoveWorker,
    Store,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.retry import Backoff
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.event_bus import EventBus
from hodei_core.runtime.patience import insist
from hodei_core.runtime.provided import Provided
from hodei_core.runtime.slot import Slot, SlotHost
from hodei_core.scheduling.index import Candidate, WorkerIndex
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.scheduler import ProviderView
from hodei_core.stats import ProviderStats
from hodei_core.workers import Offer, Worker, WorkerState

if TYPE_CHECKING:
    from anyio.abc import TaskGroup, TaskStatus

logger: logging.Logger = logging.getLogger(__name__)

_LOSS_SECONDS = 5.0  # that the attempts of a lost worker have to notice it
_PAUSE = Backoff(first=timedelta(milliseconds=100), max=timedelta(seconds=30), jitter=0)


class FleetHost(SlotHost, Protocol):
    """What the fleet needs of its host."""

    def fleet_changed(self) -> None:
        """Take note that a worker came or went, or a provider can be asked again."""

    def fail(self, error: BaseException) -> None:
        """Break, loudly: something of ours failed by a bug."""

    async def persist(self, run: Callable[[], Awaitable[None]]) -> None:
        """Await `run` to its end, even if the event loop itself cancels it."""


class Fleet:
    """Makes workers when asked, runs a task per slot, and notices what is lost.

    A view of itself to the scheduler: `candidates`, `matching`, `providers`.
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
        host: FleetHost,
    ) -> None:
        self.index: WorkerIndex = WorkerIndex()
        self._given = tuple(providers)
        self._provided: dict[str, Provided] = {}
        self._opened: list[WorkerProvider] = []
        self._store = store
        self._clock = clock
        self._deadlines = deadlines
        self._bus = bus
        self._ids = ids
        self._host = host
        self._tasks: TaskGroup | None = None
        self._idle: dict[WorkerId, list[Slot]] = {}
        self._views: tuple[ProviderView, ...] | None = None
        self._closing = False

    # What the scheduler sees

    def candidates(self, needs: Needs, most: int) -> Sequence[Candidate]:
        """Return workers on which such a job fits now, at most `most`, in rotation."""
        return self.index.candidates(needs, most)

    def matching(self, needs: Needs) -> Sequence[Offer]:
        """Return the offers of live workers on which such a job could run, were they free."""
        return self.index.matching(needs)

    def providers(self) -> Sequence[ProviderView]:
        """Return every provider, in the order in which the user gave them."""
        if self._views is None:
            self._views = tuple(provided.view() for provided in self._provided.values())
        return self._views

    def stats(self) -> dict[str, ProviderStats]:
        """Return the figures of every provider."""
        busy = Counter(
            worker.offer.provider for worker in self.index.workers() if not worker.slots_free
        )
        return {name: provided.stats(busy[name]) for name, provided in self._provided.items()}

    # What the dispatcher does

    def take_slot(self, worker_id: WorkerId) -> Slot | None:
        """Return an idle slot of a worker, which is then no longer listed as idle."""
        idle = self._idle.get(worker_id)
        return idle.pop() if idle else None

    def put_slot(self, worker_id: WorkerId, slot: Slot) -> None:
        """List a slot as idle."""
        idle = self._idle.get(worker_id)
        if idle is not None:
            idle.append(slot)

    def provision(self, name: str) -> None:
        """Have a provider make a worker, in a task of its own."""
        assert self._tasks is not None, "the fleet is open"  # noqa: S101
        provided = self._provided[name]
        provided.arriving += 1
        self._changed()
        self._tasks.start_soon(self._make_and_serve, provided, name=f"hodei worker of {name}")

    # Its life

    async def open(self, host: ProviderHost, tasks: TaskGroup) -> None:
        """Open the providers and make the workers that they start with.

        Raises:
            ProvisionError: a provider cannot work here.
        """
        self._tasks = tasks
        for provider in self._given:
            await provider.open(host)
            self._opened.append(provider)
            provided = Provided(provider)
            self._provided[provided.name] = provided
        self._views = None
        for provided in self._provided.values():
            for _ in range(provided.provider.max_workers):
                provided.arriving += 1
                await tasks.start(self._make_and_serve_first, provided)

    async def close(self) -> None:
        """End every worker and close every provider; idempotent."""
        self._closing = True
        for provider in reversed(self._opened):
            try:
                await provider.close()
            except Exception:
                logger.exception("a provider could not be closed: %r", provider)
        self._opened.clear()

    async def _make_and_serve_first(
        self, provided: Provided, *, task_status: TaskStatus[None]
    ) -> None:
        worker, session = await self._make(provided)
        task_status.started()
        await self._serve_or_fail(provided, worker, session)

    async def _make_and_serve(self, provided: Provided) -> None:
        try:
            worker, session = await self._make(provided)
        except Exception as error:
            self._failed(provided, error)
            return
        await self._serve_or_fail(provided, worker, session)

    async def _serve_or_fail(
        self, provided: Provided, worker: Worker, session: WorkerSession
    ) -> None:
        try:
            await self._serve(provided, worker, session)
        except Exception as error:
            self._host.fail(error)

    async def _make(self, provided: Provided) -> tuple[Worker, WorkerSession]:
        worker_id = self._ids.worker_id(provided.name)
        began = self._clock.monotonic()
        self._bus.publish(
            WorkerProvisioning(at=self._clock.now(), worker_id=worker_id, provider=provided.name)
        )
        try:
            session = await provided.provider.provision(worker_id)
        finally:
            provided.arriving -= 1
            self._views = None
        provided.startup = timedelta(seconds=self._clock.monotonic() - began)
        self._recovered(provided)
        offer = provided.offer
        return (
            Worker(
                id=worker_id,
                provider=offer.provider,
                state=WorkerState.READY,
                slots=offer.slots,
                resources=offer.resources,
                labels=offer.labels,
                image=offer.image,
                ready_at=self._clock.now(),
            ),
            session,
        )

    def _failed(self, provided: Provided, error: Exception) -> None:
        provided.failures += 1
        provided.last_error = str(error) or repr(error)
        if isinstance(error, ProvisionError) and error.permanent:
            provided.never = provided.last_error
        elif provided.retry_at is None:
            pause = _PAUSE.pause(provided.failures, 0.5)
            provided.retry_at = self._clock.now() + pause
            self._deadlines.after(pause.total_seconds(), lambda: self._ask_again(provided))
        logger.warning(
            "provider %s could not make a worker: %s",
            provided.name,
            provided.last_error,
            exc_info=None if isinstance(error, ProvisionError) else error,
            extra={"provider": provided.name, "action": "provision"},
        )
        if provided.failures == 1:
            self._bus.publish(
                ProviderTripped(
                    at=self._clock.now(), provider=provided.name, message=provided.last_error
                )
            )
        self._changed()

    def _ask_again(self, provided: Provided) -> None:
        provided.retry_at = None
        self._changed()

    def _recovered(self, provided: Provided) -> None:
        if provided.failures:
            provided.failures = 0
            provided.retry_at = None
            self._bus.publish(
                ProviderRecovered(
                    at=self._clock.now(), provider=provided.name, message="it made a worker"
                )
            )

    async def _serve(self, provided: Provided, worker: Worker, session: WorkerSession) -> None:
        slots = [Slot(session, self._host) for _ in range(worker.slots)]
        async with anyio.create_task_group() as tasks:
            for slot in slots:
                tasks.start_soon(self._host.persist, slot.serve, name=f"hodei slot of {worker.id}")
            await self._write(PutWorker(worker))
            provided.sessions[worker.id] = session
            self._idle[worker.id] = slots[:]
            self.index.add(worker.id, worker.offer)
            self._tell(WorkerReady, worker)
            loss = await self._run(session)
            await self._let_go(provided, worker, slots, loss)
            tasks.cancel_scope.cancel()

    async def _run(self, session: WorkerSession) -> str | None:
        """Serve a worker to its end; return how it was lost, or None if it was ended."""
        try:
            await self._host.persist(session.run)
        except Exception as error:
            return str(error) or repr(error)
        return None if self._closing else "it ended unasked"

    async def _let_go(
        self, provided: Provided, worker: Worker, slots: list[Slot], loss: str | None
    ) -> None:
        self.index.remove(worker.id)
        del self._idle[worker.id]
        with anyio.move_on_after(_LOSS_SECONDS):
            for slot in slots:
                await slot.until_idle()
        del provided.sessions[worker.id]
        lost = loss is not None and not self._closing
        state = WorkerState.LOST if lost else WorkerState.TERMINATED
        gone = attrs.evolve(worker, state=state)
        await self._write(PutWorker(gone), RemoveWorker(worker.id))
        if lost:
            logger.warning(
                "worker %s is lost: %s",
                worker.id,
                loss,
                extra={"worker_id": worker.id, "action": "lost"},
            )
            self._tell(WorkerLost, worker, message=loss)
        else:
            self._tell(WorkerTerminated, worker)

    async def _write(self, *changes: Change) -> None:
        await insist(lambda: self._store.apply(changes), "note a worker")

    def _tell(self, event: type, worker: Worker, **more: object) -> None:
        self._bus.publish(
            event(at=self._clock.now(), worker_id=worker.id, provider=worker.provider, **more)
        )
        self._changed()

    def _changed(self) -> None:
        self._views = None
        self._host.fleet_changed()
