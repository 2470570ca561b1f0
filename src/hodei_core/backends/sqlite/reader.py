"""The reading connection: what is asked while it reads goes into its next hop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import aiosqlite

Row = tuple[Any, ...]

_MOST = 64  # queries in one hop: the first is not kept waiting for more of them


def post(connection: aiosqlite.Connection, call: Callable[[Any], None]) -> None:
    """Have a connection's thread call a function with what it owns; nobody is told of the end.

    The driver's own way makes a future for each call, and wakes the event loop for it.
    """
    connection._tx.put_nowait((None, lambda: call(connection._conn)))


class Query:
    """A statement that selects, and what it gave."""

    __slots__ = ("arguments", "done", "error", "rows", "statement")

    def __init__(
        self, statement: str, arguments: Sequence[Any], done: asyncio.Future[None]
    ) -> None:
        self.statement: str = statement
        self.arguments: Sequence[Any] = arguments
        self.done: asyncio.Future[None] = done
        self.rows: list[Row] = []
        self.error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Execute it. Never raises."""
        try:
            self.rows = connection.execute(self.statement, self.arguments).fetchall()
        except BaseException as error:  # told to whom it concerns
            self.error = error


class Reader:
    """Executes statements that only read, those that gather together.

    Args:
        start: has the connection's thread call a function with the connection.
    """

    def __init__(self, start: Callable[[Callable[[sqlite3.Connection], None]], None]) -> None:
        self._start = start
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Query] = []
        self._busy = False

    async def select(self, statement: str, arguments: Sequence[Any]) -> list[Row]:
        """Return the rows of a statement.

        Raises:
            sqlite3.Error
        """
        query = Query(statement, arguments, self._loop.create_future())
        self._waiting.append(query)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._go_on)  # with what else is asked in this turn of the loop
        await query.done
        if query.error is not None:
            raise query.error
        return query.rows

    def _go_on(self) -> None:
        waiting = [query for query in self._waiting if not query.done.cancelled()]
        queries, self._waiting = waiting[:_MOST], waiting[_MOST:]
        self._busy = bool(queries)
        if queries:
            self._start(lambda connection: self._run(connection, queries))

    def _run(self, connection: sqlite3.Connection, queries: list[Query]) -> None:
        for query in queries:
            query.run(connection)
        try:
            self._loop.call_soon_threadsafe(self._finished, queries)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _finished(self, queries: list[Query]) -> None:
        for query in queries:
            if not query.done.done():
                query.done.set_result(None)
        self._go_on()
