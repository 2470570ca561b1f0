"""One open `Hodei`: the parts that run, how they start, how they stop, how they break."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import anyio

from hodei_core.ambient import ambient
from hodei_core.clock import Clock
from hodei_core.errors import HodeiClosedError
from hodei_core.ids import HostId, IdSource, WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import (
    ProviderHost,
    Store,
    WorkerProvider,
)
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.dispatcher import Dispatcher
from hodei_core.runtime.event_bus import EventBus
from hodei_core.runtime.fleet import Fleet
from hodei_core.runtime.follower import Follower
from hodei_core.runtime.gate import Gate, State, Stop
from hodei_core.runtime.interrupts import LoopEnd, Start, deferring_ctrl_c, starter
from hodei_core.runtime.log_buffer import LogBuffer
from hodei_core.runtime.log_writer import LogWriter
from hodei_core.runtime.neighbourhood import Neighbourhood
from hodei_core.runtime.reporter import Reporter
from hodei_core.runtime.retaining import Retaining
from hodei_core.runtime.run import Run
from hodei_core.runtime.shutdown import Shutdown
from hodei_core.runtime.slot import Slot
from hodei_core.runtime.waiters import Waiters
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.scheduler import Scheduler

logger: logging.Logger = logging.getLogger(__name__)

_LAST_NEWS_SECONDS = 2.0  # that a store may take to tell the last events


class Host:
    """Owns every loop; all of them are children of the one task that runs `serve`."""

    def __init__(
        self,
        *,
        store: Store,
        providers: Sequence[WorkerProvider],
        scheduler: Scheduler,
        clock: Clock,
        shutdown_timeout: timedelta | None,
        stuck_after: timedelta | None,
        explain: Callable[[Job], Awaitable[str]],
    ) -> None:
        self.store = store
        self.clock = clock
        self.ids: IdSource = IdSource(ambient().random_bytes)
        self.id: HostId = self.ids.host_id()
        self.dispatching: bool = bool(providers)
        self.gate: Gate = Gate(readable_when_closed=not store.durable)
        self.waiters: Waiters = Waiters()
        self.bus: EventBus = EventBus(clock)
        self.deadlines: Deadlines = Deadlines(clock)
        self.logs: LogWriter = LogWriter(store, self.deadlines)
        self.fleet: Fleet = Fleet(
            providers,
            store=store,
            clock=clock,
            deadlines=self.deadlines,
            bus=self.bus,
            ids=self.ids,
            host_id=self.id,
            host=self,
        )
        self.dispatcher: Dispatcher = Dispatcher(
            store=store,
            scheduler=scheduler,
            clock=clock,
            deadlines=self.deadlines,
            fleet=self.fleet,
            reporter=Reporter(self.bus, shared=store.hosts is not None),
            logs=self.logs,
            waiters=self.waiters,
            stuck_after=stuck_after,
            explain=explain,
            chance=self.ids.chance,
            others_could=self._others_could,
            dispatching=self.dispatching,
        )
        self.dispatcher.draining = not self.dispatching
        self.failure: BaseException | None = None
        """What broke the host, or must end the program; raised when the block is left."""

        self.on_failure: Callable[[], None] = lambda: None
        """Called once when `failure` is set: ends the body of the block."""

        self._shutdown = Shutdown(
            store=store,
            dispatcher=self.dispatcher,
            clock=clock,
            deadlines=self.deadlines,
            timeout=shutdown_timeout,
            how=lambda: self._stop,
            request_stop=self.request_stop,
        )
        self._loop_end = LoopEnd()
        self._neighbourhood = self._make_neighbourhood()
        self._follower = self._make_follower()
        self._store_is_ours = False
        self._stop: Stop | None = None
        self._opening: anyio.CancelScope | None = None
        self._stopping = anyio.Event()
        self._closed = anyio.Event()

    def _make_neighbourhood(self) -> Neighbourhood | None:
        hosts = self.store.hosts
        if hosts is None or not self.dispatching:
            return None
        return Neighbourhood(
            hosts=hosts,
            store=self.store,
            clock=self.clock,
            deadlines=self.deadlines,
            fleet=self.fleet,
            dispatcher=self.dispatcher,
            new_id=self.ids.host_id,
        )

    def _make_follower(self) -> Follower | None:
        hosts = self.store.hosts
        if hosts is None:
            return None
        return Follower(hosts=hosts, clock=self.clock, dispatcher=self.dispatcher)

    def _others_could(self, needs: Needs) -> bool:
        return self._neighbourhood is not None and self._neighbourhood.could_run(needs)

    def loss_of(self, worker_id: WorkerId) -> str | None:
        """Return how a worker that is not gone yet was lost; None if it was not."""
        loss = self.fleet.loss_of(worker_id)
        if loss is None and self._neighbourhood is not None:
            return self._neighbourhood.loss_of(worker_id)
        return loss

    def resume(self) -> None:
        """Assign again after a drain."""
        self.dispatcher.draining = not self.dispatching
        self.dispatcher.wake()

    # How it stops

    def request_stop(self, how: Stop) -> None:
        """Have it stop, or stop harder than it was told to."""
        if self._stop is None or how.value > self._stop.value:
            self._stop = how
            if self._opening is not None:
                self._opening.cancel()
            self.gate.refuse_new_work()
            if how is Stop.AT_ONCE and self.gate.state is State.CLOSING:
                self.dispatcher.interrupt()
            self._stopping.set()
            self.dispatcher.wake()
            self.dispatcher.tell_watchers()

    async def stop(self, how: Stop) -> None:
        """Have it stop and return when it has; being cancelled makes it stop at once.

        Raises:
            ForkedError
        """
        self.gate.check_place()
        self.request_stop(how)
        try:
            with anyio.CancelScope(shield=how is not Stop.NORMALLY):
                await self._closed.wait()
        except BaseException:
            self.request_stop(Stop.AT_ONCE)
            with anyio.CancelScope(shield=True):
                await self._closed.wait()
            raise

    def fail(self, error: BaseException) -> None:
        """Break, loudly: a loop of ours failed by a bug."""
        logger.critical("hodei_core is broken", exc_info=error)
        self._fail(error, Stop.BROKEN)

    def escape(self, error: BaseException) -> None:
        """Stop at once for an exception that must end the program; it is raised at the end."""
        self._fail(error, Stop.AT_ONCE)

    def _fail(self, error: BaseException, how: Stop) -> None:
        first = self.failure is None
        if first:
            self.failure = error
        self.request_stop(how)
        if how is Stop.BROKEN:
            self.gate.break_by(self.failure or error)
            self._let_everybody_go()
        if first:
            self.on_failure()

    def _let_everybody_go(self) -> None:
        self.waiters.wake_all()
        self.logs.close_all()
        self.bus.close()
        self.dispatcher.tell_watchers()

    # Its life

    async def serve(self, opened: anyio.Event) -> None:
        """Open, run until told to stop, and stop; the one owner of all that runs.

        Shielded from the cancellation of whoever started it: it is told to stop by
        `request_stop` and by nothing else.

        Raises:
            Exception: it could not be opened; nothing is left of it.
        """
        error: BaseException | None = None
        with anyio.CancelScope(shield=True):
            try:
                async with anyio.create_task_group() as tasks:
                    error = await self._serve(starter(tasks), opened)
                    tasks.cancel_scope.cancel()
            finally:
                await self._release()
        if error is not None:
            raise error

    async def _serve(self, start: Start, opened: anyio.Event) -> BaseException | None:
        loops = {
            "dispatcher": self.dispatcher.run,
            "deadlines": self.deadlines.run,
            "log writer": self.logs.run,
        }
        for name, loop in loops.items():
            start(self._keep, name, loop, name=f"hodei {name}")
        start(self._loop_end.watch, name="hodei witness")
        failure = await self._open(start)
        if failure is not None:
            await self.persist(self.fleet.close)
            return failure
        self.gate.state = State.OPEN
        opened.set()
        await self.persist(self._stopping.wait)
        self.gate.refuse_new_work()
        if self._neighbourhood is not None:
            self._neighbourhood.close()
        await self.persist(self._shutdown.run)
        late = self.dispatcher.running > 0
        self.fleet.recording = not self._shutdown.gave_up
        await self.persist(self.fleet.close)
        if late:
            await self.persist(self._shutdown.finish)
        if self._neighbourhood is not None:
            await self._neighbourhood.leave()
        silent = self._stop is Stop.BROKEN or self._shutdown.gave_up
        if self._follower is not None and not silent:
            with anyio.move_on_after(_LAST_NEWS_SECONDS):
                await self._follower.catch_up()
        return None

    async def _open(self, start: Start) -> BaseException | None:
        """Open the store and the providers; return why that could not be done."""
        try:
            with anyio.CancelScope() as self._opening:
                if self._stop is not None:
                    self._opening.cancel()
                await self.store.open(self.id)
                self._store_is_ours = True
                around = ProviderHost(
                    host_id=self.id, clock=self.clock, directory=self.store.directory
                )
                await self.fleet.open(around)
                if self._neighbourhood is not None:
                    await self._neighbourhood.join(self.id)
                    for name, loop in self._neighbourhood.loops(start).items():
                        start(self._keep, name, loop, name=f"hodei {name}")
                if self._follower is not None:
                    start(self._keep, "follower", self._follower.run, name="hodei follower")
                await self.fleet.warm_up(start)
                await self.dispatcher.load()
                if self._follower is not None:
                    self.bus.catch_up = self._follower.catch_up
                if self.dispatching and self.store.retention is not None:
                    loop = Retaining(self.store, self.clock, self.store.retention).run
                    start(self._keep, "retention", loop, name="hodei retention")
        except BaseException as error:
            return self.failure or error
        if self._opening.cancelled_caught:
            return self.failure or HodeiClosedError("this Hodei was closed while it opened")
        return self.failure

    async def _release(self) -> None:
        if self._store_is_ours:
            await self.store.close()
        self.gate.state = State.CLOSED
        self._let_everybody_go()
        self._closed.set()

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop that must not end; if it fails, the host breaks."""
        try:
            await self.persist(loop)
            msg = f"the {name} ended by itself"
            raise RuntimeError(msg)
        except anyio.get_cancelled_exc_class():
            raise
        except Exception as error:
            self.fail(error)
        except BaseException as error:
            self.escape(error)

    async def persist(self, run: Callable[[], Awaitable[None]]) -> None:
        """Await `run`, and again if the event loop itself cancels it: stop in order instead.

        `asyncio.run` cancels every task when the program is ending. Ours end when the jobs'
        process trees have. Ctrl-C is left to the user's own task.
        """
        run = deferring_ctrl_c(run)
        while True:
            try:
                await run()
            except anyio.get_cancelled_exc_class():
                if anyio.current_effective_deadline() == -math.inf:
                    raise
                self.request_stop(Stop.AT_ONCE)
            else:
                return

    async def cancelled_by_loop(self) -> bool:
        """Return whether a cancellation that this task has just caught is the event loop's."""
        return await self._loop_end.cancels_this_task()

    # What its parts ask of it

    def fleet_changed(self) -> None:
        """Take note that a worker came or went, or a provider can be asked again."""
        self.dispatcher.fleet_changed()

    async def prepare(self, run: Run) -> None:
        """Have the numbers of the run's log follow on those of the attempts before it."""
        await self.dispatcher.prepare(run)

    async def settle_log(self, log: LogBuffer) -> None:
        """Return when one commit holds what the store does not have of the log."""
        await self.logs.settle(log)

    def run_ended(self, run: Run, slot: Slot) -> None:
        """Take note that the attempt ended, and the slot is idle."""
        self.dispatcher.run_ended(run, slot)
