"""The SQL of the SQLite store beside the model: whatever it answers must be the same.

The statements are those of the store, in a database in memory; its threads and its file are left
out, since neither follows virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from hodei_core.backends.sqlite import schema
from hodei_core.backends.sqlite.logs import SqliteLogStore
from hodei_core.backends.sqlite.readers import (
    SqliteHostRegistry,
    SqliteJobQueue,
    SqliteJobRepository,
    SqliteWorkerRegistry,
)
from hodei_core.backends.sqlite.writer import Call, WritingConnection
from hodei_core.clock import Clock
from hodei_core.ids import HostId
from hodei_core.ports import Change, Needs, News, Outcome
from hodei_core.workers import Worker


class Shadow:
    """Makes every change of the model in SQLite too, and compares."""

    def __init__(self, broken: Callable[[str], Exception]) -> None:
        self._broken = broken
        self._writers: dict[object, int] = {}
        self._sql = WritingConnection(":memory:", isolation_level=None)
        schema.migrate(self._sql)

    def close(self) -> None:
        """Let go of the database."""
        self._sql.close()

    def writer(self, by: object) -> int:
        """Return the number of a connection."""
        return self._writers.setdefault(by, len(self._writers) + 1)

    def commit(self, changes: Sequence[Change], expected: list[Outcome], by: object) -> None:
        """Make the changes of a connection; their outcomes must be the model's."""
        call = Call.__new__(Call)
        call.changes, call.outcomes = changes, []
        self._sql.commit_calls([call], self.writer(by))
        for change, wanted, got in zip(changes, expected, call.outcomes, strict=True):
            if wanted != got and str(wanted.error) != str(got.error):
                raise self._broken(f"SQLite answers {got} to {change}, and not {wanted}")

    async def select(self, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self._sql.execute(statement, arguments).fetchall()

    def check(self, asked: str, expected: object, got: object) -> None:
        """Compare what was read."""
        expected, got = _in_no_order(expected), _in_no_order(got)
        if expected != got:
            if isinstance(expected, list) and isinstance(got, list):
                pairs = zip(expected, got, strict=False)
                expected, got = next(
                    ((one, other) for one, other in pairs if one != other), (expected, got)
                )
            raise self._broken(f"SQLite shows {got} for {asked}, and not {expected}")


def _in_no_order(shown: Any) -> Any:
    """Return what was read without the orders that no contract names."""
    if isinstance(shown, News):
        return attrs.evolve(shown, needs=tuple(sorted(shown.needs, key=repr)))
    if not isinstance(shown, list) or not shown:
        return shown
    if isinstance(shown[0], Needs):
        return sorted(map(repr, shown))
    if isinstance(shown[0], Worker):
        return [attrs.evolve(worker, jobs=tuple(sorted(worker.jobs))) for worker in shown]
    return shown


class ShadowReaders:
    """The reading sides as one connection has them."""

    def __init__(
        self, shadow: Shadow, clock: Clock, mine: Callable[[], list[HostId]], by: object
    ) -> None:
        self.shadow = shadow
        self.queue = SqliteJobQueue(shadow.select, clock, mine)
        self.jobs = SqliteJobRepository(shadow.select, shadow.select)
        self.workers = SqliteWorkerRegistry(shadow.select)
        self.logs = SqliteLogStore(shadow.select, shadow.select)
        self.hosts = SqliteHostRegistry(shadow.select, _never, _never, lambda _: False)
        self._by = by

    async def begin(self) -> None:
        """Begin to hear of what is done from now on."""
        await self.hosts.begin(self.shadow.writer(self._by))

    async def check(
        self, side: str, name: str, expected: object, *arguments: Any, **more: Any
    ) -> None:
        """Ask the same of SQLite and compare."""
        got = await getattr(getattr(self, side), name)(*arguments, **more)
        while isinstance(got, News) and got.more:
            rest = await self.hosts.news(**more)
            got = attrs.evolve(
                rest,
                events=got.events + rest.events,
                needs=tuple(dict.fromkeys(got.needs + rest.needs)),
            )
        self.shadow.check(name, expected, got)


async def _never() -> Any:
    raise NotImplementedError
