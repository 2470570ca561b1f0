"""Keeps Ctrl-C out of the middle of our own code."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

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


async def wait_for(event: anyio.Event) -> None:
    """Wait for an event in a task of the user, where Ctrl-C may come at any time.

    trio's `Event.wait` keeps a waiter on its list if KeyboardInterrupt is raised between its
    two lines; the event then wakes a task that waits for something else by now, and trio fails.
    """
    await deferring_ctrl_c(event.wait)()
