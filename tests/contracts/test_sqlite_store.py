"""The SQLite store passes every suite of a store, and that of hosts that share one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ports import Store
from hodei_core.testing import (
    AcceptContract,
    AdvanceContract,
    AssignmentContract,
    CancelContract,
    HostContract,
    LogContract,
    QueueContract,
    RegistryContract,
    RepositoryContract,
    RetentionContract,
    StoreContract,
    StoreSuite,
)


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The driver runs on asyncio alone."""
    return str(request.param)


class Sqlite(StoreSuite):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.files = (tmp_path / f"jobs-{number}.db" for number in itertools.count())

    async def make_store(self) -> Store:
        return SqliteStore(next(self.files))

    async def make_again(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        return SqliteStore(store.path)

    async def make_second(self, store: Store) -> Store:
        return await self.make_again(store)


class TestStore(Sqlite, StoreContract):
    pass


class TestAccept(Sqlite, AcceptContract):
    pass


class TestAdvance(Sqlite, AdvanceContract):
    pass


class TestAssignment(Sqlite, AssignmentContract):
    pass


class TestCancel(Sqlite, CancelContract):
    pass


class TestQueue(Sqlite, QueueContract):
    pass


class TestRepository(Sqlite, RepositoryContract):
    pass


class TestRetention(Sqlite, RetentionContract):
    pass


class TestRegistry(Sqlite, RegistryContract):
    pass


class TestLog(Sqlite, LogContract):
    pass


class TestHosts(Sqlite, HostContract):
    pass
