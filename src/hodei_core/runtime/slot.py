"""A slot of a worker: a long-lived task that runs one attempt after the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from hodei_core.endings import Ending
from hodei_core.executions import Exit
from hodei_core.ports import (
    NotStartedError,
    StartFailedError,
    WorkerLostError,
    WorkerSession,
)
from hodei_core.runtime.log_buffer import LogBuffer
from hodei_core.runtime.run import Run
from hodei_core.states import Reason

logger: logging.Logger = logging.getLogger(__name__)


class SlotHost(Protocol):
    """What a slot needs of its host."""

    async def prepare(self, run: Run) -> None:
        """Have the numbers of the run's log follow on those of the attempts before it."""

    async def settle_log(self, log: LogBuffer) -> None:
        """Return when one commit holds what the store does not have of the log."""

    def run_ended(self, run: Run, slot: Slot) -> None:
        """Take note that the attempt ended, and the slot is idle."""

    async def cancelled_by_loop(self) -> bool:
        """Return whether a cancellation that this task has just caught is the event loop's."""

    def escape(self, error: BaseException) -> None:
        """Take note of an exception that must end the program."""


async def _gone(why: str) -> bool:
    del why
    return True


class Slot:
    """Runs what it is given, one attempt at a time, and reports how each ended.

    One cancel scope serves attempt after attempt, and is renewed only when one was ended by
    it: neither a task nor a scope is made for a job.

    Args:
        session: the line to the worker.
        host: whom it tells how attempts ended.
        lost: told why the worker is gone; returns when nothing of it is left outside, and whether
            that is certain. Only then the attempt has ended, and may be followed by another.
    """

    def __init__(
        self,
        session: WorkerSession,
        host: SlotHost,
        lost: Callable[[str], Awaitable[bool]] = _gone,
    ) -> None:
        self._session = session
        self._host = host
        self._lost = lost
        self._given: Run | None = None
        self._unwanted = False
        self._gift = anyio.Event()
        self._emptied = anyio.Event()
        self._scope = anyio.CancelScope()

    @property
    def idle(self) -> bool:
        """Whether it has no attempt."""
        return self._given is None

    async def until_idle(self) -> None:
        """Return when it has no attempt."""
        while self._given is not None:
            self._emptied = anyio.Event()
            await self._emptied.wait()

    def give(self, run: Run) -> None:
        """Have it run an attempt; it is idle."""
        self._given = run
        run.end = self._end
        self._gift.set()

    def _end(self) -> None:
        self._unwanted = True
        self._scope.cancel()

    async def serve(self) -> None:
        """Run what is given, until cancelled; what it leaves undone is lost with the worker."""
        try:
            await self._serve()
        finally:
            run = self._given
            if run is not None:
                await self._end_of(run, Ending(cause=Reason.WORKER_LOST, message=_GONE))

    async def _serve(self) -> None:
        while True:
            if self._unwanted:  # ended while no scope of ours was there to be cancelled
                await self._finish(_NEVER_STARTED)
            begun = False
            with anyio.CancelScope() as self._scope:
                while not self._scope.cancel_called:
                    begun = False
                    while self._given is None:
                        self._gift = anyio.Event()
                        await self._gift.wait()
                    begun = True
                    await self._finish(await self._execute(self._given))
            if self._scope.cancelled_caught and self._given is not None:
                # Ended before its session had anything to end, or by a session that let the
                # cancellation through instead of returning an exit.
                started = begun and self._given.started_at is not None
                await self._finish(_WITHOUT_EXIT if started else _NEVER_STARTED)

    async def _finish(self, ending: Ending | None) -> None:
        run = self._given
        assert run is not None  # noqa: S101 - what ends was given
        if ending is None:  # it may live on: it stays open, for whoever can tell
            self._empty(run)
            return
        await self._end_of(run, ending)

    async def _end_of(self, run: Run, ending: Ending) -> None:
        run.ended(ending)
        if run.log is not None:
            with anyio.CancelScope(shield=True):
                await self._host.settle_log(run.log)
        self._let_go(run)

    def _let_go(self, run: Run) -> None:
        self._empty(run)
        self._host.run_ended(run, self)

    def _empty(self, run: Run) -> None:
        self._given = None
        self._unwanted = False
        run.end = None
        self._emptied.set()

    async def _execute(self, run: Run) -> Ending | None:
        if self._unwanted:  # ended before it began
            return _NEVER_STARTED
        try:
            if run.job.attempt.number > 1:
                await self._host.prepare(run)
            exit_ = await self._session.execute(run.execution, run)
        except StartFailedError as error:
            return Ending(cause=Reason.START_FAILED, message=str(error), never_started=True)
        except NotStartedError as error:
            return Ending(message=str(error), never_started=True)
        except WorkerLostError as error:
            with anyio.CancelScope(shield=True):
                certain = await self._lost(str(error))
            return Ending(cause=Reason.WORKER_LOST, message=str(error)) if certain else None
        except anyio.get_cancelled_exc_class() as error:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            if await self._host.cancelled_by_loop():  # the program is ending
                return _INTERRUPTED
            return self._failed(run, error)
        except (KeyboardInterrupt, SystemExit) as error:  # they end the program
            self._host.escape(error)
            return _INTERRUPTED
        except BaseException as error:  # whatever a provider's code raises is contained
            return self._failed(run, error)
        if exit_.code is None and not self._unwanted:
            return Ending(exit=exit_, cause=Reason.WORKER_LOST, message=_GONE)
        return Ending(exit=exit_)

    @staticmethod
    def _failed(run: Run, error: BaseException) -> Ending:
        logger.error(
            "the worker's session failed",
            exc_info=error,
            extra={"job_id": run.job.id, "worker_id": run.worker_id},
        )
        return Ending(cause=Reason.WORKER_LOST, message=f"the worker's session failed: {error!r}")


_GONE = "its worker is gone"
_NEVER_STARTED = Ending(
    exit=Exit(code=None), never_started=True, message="it was ended before it started"
)
_WITHOUT_EXIT = Ending(exit=Exit(code=None))
_INTERRUPTED = Ending(exit=Exit(code=None), cause=Reason.INTERRUPTED)
