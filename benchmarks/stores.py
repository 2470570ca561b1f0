"""Files of SQLite stores, new ones and full ones."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import anyio.from_thread

from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ids import HostId

Synchronous = Literal["FULL", "NORMAL"]


@contextmanager
def folder() -> Iterator[Path]:
    """Give a directory that is there until the block is left."""
    with tempfile.TemporaryDirectory(prefix="hodei-benchmark-") as name:
        yield Path(name)


@contextmanager
def new_files() -> Iterator[Callable[[], Path]]:
    """Give what returns the name of another file at each call."""
    with folder() as within:
        names = (within / f"jobs-{number}.db" for number in itertools.count())
        yield lambda: next(names)


def make_file(path: Path) -> None:
    """Make the file of a store that holds nothing."""

    async def make() -> None:
        store = SqliteStore(path)
        await store.open(HostId("benchmark"))
        await store.close()

    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(make)
