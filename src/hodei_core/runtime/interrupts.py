"""Keeps Ctrl-C out of the middle of our own code, and knows the end of the event loop."""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

T = TypeVar("T")


def deferring_ctrl_c(run: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """Return `run` so that trio never raises KeyboardInterrupt within it.

    trio raises it wherever the program happens to be, unless told not to; it then reaches
    the main task, which is the user's. asyncio cancels the main task by itself.
    """
    trio = sys.modules.get("trio")
    if trio is None:
        return run

    protect: Callable[[Callable[[], Awaitable[T]]], Callable[[], Awaitable[T]]]
    protect = trio.lowlevel.enable_ki_protection

    async def protected() -> T:
        return await run()

    return protect(protected)


class Start(Protocol):
    """Starts a task."""

    def __call__(
        self, run: Callable[..., Awaitable[None]], /, *arguments: object, name: str
    ) -> object:
        """Start one that runs `run`."""


def starter(tasks: TaskGroup) -> Start:
    """Return what starts tasks of the group that this task has just opened.

    Under trio no Ctrl-C reaches them from their first line on: anyio's own lines, which a task
    begins with, would be a place where KeyboardInterrupt ends it.
    """
    trio = sys.modules.get("trio")
    try:
        nursery = trio.lowlevel.current_task().child_nurseries[-1]  # type: ignore[union-attr]
    except (AttributeError, RuntimeError):  # trio is not imported, or another loop runs
        return tasks.start_soon  # type: ignore[return-value]

    def start(run: Callable[..., Awaitable[None]], /, *arguments: object, name: str) -> None:
        nursery.start_soon(deferring_ctrl_c(partial(run, *arguments)), name=name)

    return start


async def wait_for(event: anyio.Event) -> None:
    """Wait for an event in a task of the user, where Ctrl-C may come at any time.

    trio's `Event.wait` keeps a waiter on its list if KeyboardInterrupt is raised between its
    two lines; the event then wakes a task that waits for something else by now, and trio fails.
    """
    await deferring_ctrl_c(event.wait)()


class LoopEnd:
    """Knows whether the event loop itself cancels its tasks, as `asyncio.run` does at its end.

    A library may let out a `CancelledError` that nobody asked for. asyncio can tell the two
    apart since Python 3.11; before, a task that nobody else cancels bears witness.
    """

    def __init__(self) -> None:
        self._witnessed = False

    async def watch(self) -> None:
        """Bear witness, until cancelled."""
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                raise
            self._witnessed = True

    async def cancels_this_task(self) -> bool:
        """Return whether a cancellation that this task has just caught is the loop's."""
        try:
            task = sys.modules["asyncio"].current_task()
        except (KeyError, RuntimeError):  # no loop of asyncio's: trio cancels by scopes alone
            return False
        if hasattr(task, "cancelling"):
            return bool(task.cancelling() > 0)
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()  # the witness was cancelled in the same pass
        return self._witnessed
