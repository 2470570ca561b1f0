"""The two connections of a store, each with a thread of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import aiosqlite

from hodei_core.backends.sqlite import faults, files, pragmas, schema
from hodei_core.backends.sqlite.checkpoints import Checkpoints
from hodei_core.backends.sqlite.writer import WritingConnection
from hodei_core.compat import override

_TRIES = 50  # within the time that a call waits
_UNUSED = 64  # rows a chunk, which only a cursor that is iterated has


class ReadingConnection(sqlite3.Connection):
    """A connection that reads from a file only as long as it is what its name says."""

    place: files.Place | None = None

    @override
    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.place is not None:
            self.place.check()
        return super().execute(sql, parameters)


class Connection(aiosqlite.Connection):
    """A connection whose thread opens it, and closes it, whatever becomes of the event loop.

    Args:
        connect: opens it; called in the thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        made: list[sqlite3.Connection] = []

        def connector() -> sqlite3.Connection:
            made.append(connect())
            return made[0]

        super().__init__(connector, _UNUSED)
        self._made = made
        # One that nobody closes must not keep the interpreter from ending.
        self._thread.daemon = True
        run = self._thread.run

        def run_quietly() -> None:
            try:
                run()
            except RuntimeError:  # there was somebody to be told, and the event loop is closed
                _close(made)

        self._thread.run = run_quietly  # type: ignore[method-assign]

    @override
    def stop(self) -> asyncio.Future[Any] | None:
        # An opening that was cancelled has an end that nobody takes.
        made = self._made
        self._tx.put_nowait((None, lambda: _close(made)))
        return super().stop()


def _close(made: Iterable[sqlite3.Connection]) -> None:
    for connection in made:
        connection.close()


async def open_writer(
    path: Path, synchronous: files.Synchronous
) -> tuple[aiosqlite.Connection, files.Place]:
    """Return the connection that writes, and where its file is; the schema is up to date.

    Raises:
        StoreInvalidError: the file is no store, or one of a newer version.
        StoreBusyError: it stayed locked.
    """
    places: list[files.Place] = []

    def connect() -> WritingConnection:
        real = os.path.realpath(path)
        files.check(path, real)
        files.create(path, real)
        with faults.translated(path):
            connection = files.connect(real, WritingConnection)
            try:
                if not connection.execute("pragma page_count").fetchone()[0]:
                    connection.execute(f"pragma {pragmas.OF_A_NEW_FILE}")
                for pragma in (*pragmas.OF_THE_WRITER, f"synchronous = {synchronous}"):
                    connection.execute(f"pragma {pragma}")
                # A fresh schema would fill the log, which is never small again.
                schema.migrate(connection)
                _begin_log(connection)
                schema.check(connection)  # the log is there from the first read on
                connection.place = files.Place(path, real)
                connection.checkpoints = Checkpoints(real)
            except BaseException:
                connection.close()
                raise
        places.append(connection.place)
        return connection

    connection = await Connection(connect)
    return connection, places[0]


def _begin_log(connection: sqlite3.Connection) -> None:
    """Have changes written to a log beside the file, so that readers wait for nobody.

    SQLite itself does not wait for those who are in the way of that.
    """
    for left in range(_TRIES, -1, -1):
        try:
            connection.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError as error:
            if not (left and faults.is_busy(error)):
                raise
            time.sleep(files.BUSY_SECONDS / _TRIES)
        else:
            return


async def open_reader(path: Path, place: files.Place) -> aiosqlite.Connection:
    """Return a connection that cannot write.

    Raises:
        StoreInvalidError, StoreBusyError
    """

    def connect() -> ReadingConnection:
        with faults.translated(path):
            connection = files.connect(os.path.realpath(path), ReadingConnection)
            connection.execute("pragma query_only = 1")
            connection.place = place
        return connection

    return await Connection(connect)
