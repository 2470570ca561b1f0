"""An event loop in a thread of its own, which Ctrl-C can neither break nor make wait for ever.

A portal in the manner of anyio's `start_blocking_portal`, and not that one itself. There the
main thread waits on a `concurrent.futures.Future`: KeyboardInterrupt between the two lines that
lock it leaves it locked, and the event loop then waits for that lock for ever (9 times in 18,000
interrupts of a loop of calls). Here it holds no lock that another thread ever waits for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar, cast

import anyio

from hodei_core.errors import HodeiClosedError

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

END_SECONDS = 20.0
"""How long what is under way may take to end: the interruption of a host takes 15 at most."""

_CTRL_C_SECONDS = 0.5
"""How often a wait looks up: a signal that comes just before the thread sleeps does not wake it."""

_JOIN_SECONDS = 5.0  # beyond that, for the thread to end


class StoppedError(Exception):
    """The event loop takes no more calls."""


class LoopThread:
    """Runs async functions for other threads, from `start` to `stop`.

    The thread is a daemon: it does not keep the interpreter alive.
    """

    def __init__(self) -> None:
        self._ready = _Flag()
        self._calls: set[_Call[object]] = set()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="hodei", daemon=True)

    @property
    def is_here(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self._thread

    def start(self) -> None:
        """Start it and return when calls can be made.

        Raises:
            OSError: there are no more threads or descriptors.
        """
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def call(self, make: Callable[[], Awaitable[T]], *, patience: float, last: bool = False) -> T:
        """Run an async function there; return what it returns.

        Ctrl-C cancels it, and goes on when it has ended, after `patience` seconds at the latest;
        a second Ctrl-C goes on at once. With `last` the loop ends as if `stop` were called then.

        Raises:
            StoppedError: it was not begun.
            HodeiClosedError: the loop ended meanwhile.
        """
        call = _Call(make, last=last)
        try:
            if not self._admit(call):
                raise StoppedError
            self._post(self._begin, call)
            call.ended.wait()
        except StoppedError:
            raise
        except BaseException:
            self._interrupt(call, patience)
            raise
        return call.result()

    def end_soon(self, make: Callable[[], Awaitable[object]]) -> None:
        """Run a last async function there, for whose end nobody waits but `stop`."""
        call = _Call(make, last=True)
        if self._admit(call):
            self._post(self._begin, call)

    def stop(self, seconds: float | None = None) -> bool:
        """Let what is under way end, then the thread; idempotent, from any other thread.

        Returns whether it has ended, within so many seconds; None: as long as that may take,
        but not at all where a second Ctrl-C gave up on what is under way.
        """
        self._stopping = True
        self._post(self._leave)
        if seconds is None:
            seconds = 0.0 if self._given_up and self._calls else END_SECONDS + _JOIN_SECONDS
        with suppress(RuntimeError):  # it was never started
            self._thread.join(seconds)
        return not self._thread.is_alive()

    # In other threads

    def _admit(self, call: _Call[T]) -> bool:
        """Have `stop` wait for a call, unless it is too late: told first, asked then, as there."""
        self._calls.add(cast("_Call[object]", call))
        if not self._stopping:
            return True
        self._calls.discard(cast("_Call[object]", call))
        self._post(self._look_around)
        return False

    def _post(self, act: Callable[..., None], *args: object) -> bool:
        """Have the loop do this soon, if it is there: one that is over has ended every call."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(act, *args)
        except RuntimeError:
            return False
        return True

    def _interrupt(self, call: _Call[T], patience: float) -> None:
        if not self._post(self._cancel, call):
            return
        served = False
        try:
            served = call.ended.wait(patience)
        finally:
            self._given_up = not served
        if not served:
            logger.warning("a cancelled call has not ended within %g s", patience)

    # In its thread

    def _run(self) -> None:
        try:
            anyio.run(self._serve, backend="asyncio")
        except BaseException as error:
            self._error = error
        self._stopping = True
        for call in tuple(self._calls):
            call.abandon()
        self._ready.set()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if not self._stopping:  # by whoever did not know the loop yet
            self._ready.set()
            await self._over.wait()

    def _begin(self, call: _Call[object]) -> None:
        assert self._loop is not None  # noqa: S101 - it runs this
        call.task = self._loop.create_task(self._carry_out(call), name="hodei call")

    async def _carry_out(self, call: _Call[object]) -> None:
        try:
            await call.run()
        finally:
            self._end(call)

    def _cancel(self, call: _Call[object]) -> None:
        call.cancel()
        if call.task is None:  # interrupted before it was posted
            self._end(call)

    def _end(self, call: _Call[object]) -> None:
        self._stopping = self._stopping or call.last
        self._calls.discard(call)
        call.ended.set()
        self._look_around()

    def _leave(self) -> None:
        assert self._loop is not None  # noqa: S101 - it runs this
        assert self._over is not None  # noqa: S101 - it was made before the loop was known
        self._loop.call_later(END_SECONDS, self._over.set)
        self._look_around()

    def _look_around(self) -> None:
        if self._stopping and not self._calls and self._over is not None:
            self._over.set()


class _Call(Generic[T]):
    """One async function on its way through the loop."""

    def __init__(self, make: Callable[[], Awaitable[T]], *, last: bool) -> None:
        self.last = last
        self.ended = _Flag()
        self.task: asyncio.Task[None] | None = None
        self._make = make
        self._scope: anyio.CancelScope | None = None
        self._cancelled = False
        self._values: list[T] = []
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Await the function, and keep what came of it, be it an end of the program.

        The variables of the context are those of the caller, whose event loop may be another.
        """
        sniffio = sys.modules.get("sniffio")
        if sniffio is not None:
            sniffio.current_async_library_cvar.set("asyncio")
        try:
            with anyio.CancelScope() as self._scope:
                if self._cancelled:
                    self._scope.cancel()
                self._values.append(await self._make())
        except asyncio.CancelledError:
            pass  # the loop ended; whoever waits is told by `result`
        except BaseException as error:
            self._error = error

    def cancel(self) -> None:
        """Cancel it, begun or not."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    def abandon(self) -> None:
        """Let go who waits for it: the loop is over."""
        self.ended.set()

    def result(self) -> T:
        """Return what the function returned, or raise what it raised."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # else it would hold, by its traceback, itself
        if not self._values:
            msg = "this Hodei closed while the call was under way"
            raise HodeiClosedError(msg)
        return self._values[0]


class _Flag:
    """Set once, waited for by one thread; setting it never waits, wherever Ctrl-C hits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._is_set = False

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            self._lock.release()

    def wait(self, seconds: float = math.inf) -> bool:
        """Return whether it was set, at the latest after this time."""
        deadline = time.monotonic() + seconds
        while not self._is_set:
            left = min(deadline - time.monotonic(), _CTRL_C_SECONDS)
            if left <= 0:
                break
            self._lock.acquire(timeout=left)
        return self._is_set
