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

_LOST: list[Connection] = []
"""Connections to files that were deleted or replaced, kept open until the process ends."""


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
        self._lost = False
        # One that nobody closes must not keep the interpreter from ending.
        self._thread.daemon = True
        run = self._thread.run

        def run_quietly() -> None:
            try:
                run()
            except RuntimeError:  # there was somebody to be told, and the event loop is closed
                _close(made)

        self._thread.run = run_quietly  # type: ignore[method-assign]

    def lose(self) -> None:
        """Leave it open for ever: its file is gone.

        SQLite would delete by name, at its end, what may be another store's by now.
        """
        self._lost = True
        _LOST.append(self)

    def __del__(self) -> None:
        if not self._lost:  # else it was left open with intent
            super().__del__()  # type: ignore[no-untyped-call]

    @override
    def stop(self) -> asyncio.Future[Any] | None:
        # An opening that was cancelled has an end that nobody takes.
        made = self._made
        self._tx.put_nowait((None, lambda: _close(made)))
        return super().stop()


def _close(made: Iterable[sqlite3.Connection]) -> None:
    for connection in made:
        connection.close()


async def open_writer(path: Path, synchronous: files.Synchronous) -> tuple[Connection, files.Place]:
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
            writing = files.connect(real, WritingConnection)
            try:
                if not writing.execute("pragma page_count").fetchone()[0]:
                    writing.execute(f"pragma {pragmas.OF_A_NEW_FILE}")
                for pragma in (*pragmas.OF_THE_WRITER, f"synchronous = {synchronous}"):
                    writing.execute(f"pragma {pragma}")
                # A fresh schema would fill the log, which is never small again.
                schema.migrate(writing)
                _begin_log(writing)
                schema.check(writing)  # the log is there from the first read on
                writing.place = files.Place(path, real)
                writing.checkpoints = Checkpoints(real)
            except BaseException:
                writing.close()
                raise
        places.append(writing.place)
        return writing

    connection = Connection(connect)
    await connection
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


async def open_reader(path: Path, place: files.Place) -> Connection:
    """Return a connection that cannot write.

    Raises:
        StoreInvalidError, StoreBusyError
    """

    def connect() -> ReadingConnection:
        with faults.translated(path):
            reading = files.connect(os.path.realpath(path), ReadingConnection)
            reading.execute("pragma query_only = 1")
            reading.place = place
        return reading

    connection = Connection(connect)
    await connection
    return connection
