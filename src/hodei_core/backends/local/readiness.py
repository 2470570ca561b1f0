"""Serving a descriptor whenever it is readable, at the least cost that the event loop allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio


async def serve_readable(fd: int, turn: Callable[[], bool]) -> None:
    """Call `turn` each time that a descriptor is readable, until it returns False.

    On asyncio the loop calls it directly: waiting anew for each turn costs five times as much,
    and turns are what short jobs are made of.

    Raises:
        Exception: what `turn` raised.
    """
    if _is_on_asyncio():
        await _serve_by_asyncio(fd, turn)
        return
    while True:
        await anyio.wait_readable(fd)
        if not turn():
            return


def _is_on_asyncio() -> bool:
    # A task of trio is none of asyncio's, even where the one loop runs inside the other.
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def _serve_by_asyncio(fd: int, turn: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def call() -> None:
        if over.done():
            return
        try:
            if not turn():
                over.set_result(None)
        except Exception as error:  # it belongs to the task, not to the loop's handler
            over.set_exception(error)

    loop.add_reader(fd, call)
    try:
        await over
    finally:
        loop.remove_reader(fd)
