"""Where the calls of one blocking `Hodei` go: to its event loop, or to one just for the call."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hodei_core.blocking.loop_thread import END_SECONDS, LoopThread, StoppedError
from hodei_core.errors import ForkedError, HodeiClosedError

T = TypeVar("T")

SERVED_SECONDS = 5.0
"""How long a call that Ctrl-C has cancelled may take to end."""

_EXIT_SECONDS = 4.0  # how long one that was never closed may hold up the end of the program


class Portal:
    """Carries out async calls; `end_at_once` closes when the program ends without a close."""

    def __init__(self, end_at_once: Callable[[], Awaitable[None]]) -> None:
        self._end_at_once = end_at_once
        self._unopened = threading.Lock()
        self._pid: int | None = None
        self._loop: LoopThread | None = None

    def open(self, opening: Callable[[], Awaitable[object]]) -> None:
        """Start the event loop and open there; if that fails, nothing is left.

        Raises:
            RuntimeError: it was opened before.
            ForkedError: by the parent process.
        """
        self._check_process()
        if not self._unopened.acquire(blocking=False):
            msg = "a Hodei is opened once; make a new one"
            raise RuntimeError(msg)
        self._pid = os.getpid()
        loop = LoopThread()
        try:
            loop.start()
            self._loop = loop
            atexit.register(self._at_exit)
            loop.call(opening, patience=END_SECONDS)
        except BaseException:
            self._stop(loop)
            raise

    def close(self, closing: Callable[[], Awaitable[None]]) -> None:
        """Close there and end the event loop; from any thread, idempotent."""
        loop = self._loop_to_call()
        if loop is None:
            return
        try:
            loop.call(closing, patience=END_SECONDS, last=True)
        except StoppedError:
            pass
        except BaseException:
            loop.end_soon(self._end_at_once)  # Ctrl-C may have come before `closing` was begun
            raise
        finally:
            self._stop(loop)

    def call(self, make: Callable[[], Awaitable[T]], *, patience: float = SERVED_SECONDS) -> T:
        """Run an async function; Ctrl-C cancels it and waits `patience` seconds for its end.

        Raises:
            HodeiClosedError: never opened.
            ForkedError: opened by the parent process.
            RuntimeError: from the event loop itself, which would wait for itself.
        """
        loop = self._loop_to_call()
        if loop is None:
            msg = "this Hodei is not open: use `with Hodei() as hodei:` or `open()`"
            raise HodeiClosedError(msg)
        try:
            return loop.call(make, patience=patience)
        except StoppedError:
            return alone(make, patience=patience)

    def here(self, make: Callable[[], T]) -> T:
        """Run a function that waits for nothing: in the event loop, as long as there is one."""

        async def made() -> T:
            return make()

        loop = self._loop_to_call()
        if loop is not None:
            try:
                return loop.call(made, patience=SERVED_SECONDS)
            except StoppedError:
                pass
        return make()

    def _loop_to_call(self) -> LoopThread | None:
        self._check_process()
        loop = self._loop
        if loop is not None and loop.is_here:
            msg = (
                "a blocking Hodei was called from its own event loop, which would wait for itself; "
                "a handler calls it by anyio.to_thread.run_sync"
            )
            raise RuntimeError(msg)
        return loop

    def _check_process(self) -> None:
        if self._pid not in (None, os.getpid()):
            msg = "this Hodei was opened by the parent process; a forked child cannot use it"
            raise ForkedError(msg)

    def _at_exit(self) -> None:
        """End in order what the program has left open, as far as the time allows."""
        if self._pid == os.getpid() and self._loop is not None:
            self._loop.end_soon(self._end_at_once)
            self._loop.stop(_EXIT_SECONDS)

    def _stop(self, loop: LoopThread) -> None:
        if loop.stop():
            atexit.unregister(self._at_exit)


def alone(make: Callable[[], Awaitable[T]], *, patience: float = SERVED_SECONDS) -> T:
    """Run an async function in an event loop that lives for this call."""
    loop = LoopThread()
    try:
        loop.start()
        return loop.call(make, patience=patience, last=True)
    finally:
        loop.stop()
