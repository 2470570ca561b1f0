"""What the tests of the SQLite store share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ids import HostId
from hodei_core.testing.contracts.driver import StoreDriver

LIMIT = 60  # seconds

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount and to be nobody")

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@asynccontextmanager
async def opened(path: Path, host: str = "host") -> AsyncIterator[StoreDriver]:
    """Open the store of a file, and close it afterwards."""
    store = SqliteStore(path)
    await store.open(HostId(host))
    try:
        yield StoreDriver(store)
    finally:
        await store.close()


async def make(path: Path) -> None:
    """Make a store with two jobs."""
    async with opened(path) as driver:
        await driver.add("one", name="first")
        await driver.add("two", labels={"a": "b"})


def look(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return the content, the time of change and the mode of each file of a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[path.name] = (content, status.st_mtime_ns, status.st_mode)
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def python(
    script: str, *arguments: object, before: Sequence[str] = (), flags: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, behind the program `before` if there is one."""
    command = [*before, sys.executable, *flags, "-c", textwrap.dedent(script)]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT, check=False
    )
