"""Processes with nothing around them: the floor."""

from __future__ import annotations

import asyncio
import os


async def readable(fd: int) -> None:
    """Return when a descriptor can be read: a pidfd, when its process has ended."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        loop.remove_reader(fd)
        ready.set_result(None)

    loop.add_reader(fd, tell)
    await ready


async def ended(pid: int) -> int:
    """Return the wait status of a child when it has ended."""
    pidfd = os.pidfd_open(pid)
    try:
        await readable(pidfd)
    finally:
        os.close(pidfd)
    return os.waitpid(pid, 0)[1]  # noqa: ASYNC222 - it has ended
