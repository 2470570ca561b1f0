"""The SQLite store passes every suite while another process writes to its file, or locks it."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ids import HostId
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
    StoreContract,
    StoreSuite,
)


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The driver runs on asyncio alone."""
    return str(request.param)


@pytest.fixture(scope="module", params=["writing", "locking"])
def disturber(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A process that disturbs the file that it is told."""
    program = [sys.executable, str(Path(__file__).with_name("disturber.py")), str(request.param)]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        yield process
        assert process.poll() is None, "it ended by itself"
        assert process.stdin is not None
        process.stdin.close()


def was_disturbed(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("select 1 from meta where name = 'disturbed'").fetchall())
    finally:
        connection.close()


class Disturbed(StoreSuite):
    limit_seconds = 90

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, disturber: subprocess.Popen[bytes]) -> Iterator[None]:
        self.files = (tmp_path / f"jobs-{number}.db" for number in itertools.count())
        self.disturber = disturber
        self.made: list[Path] = []
        yield
        for path in self.made:
            connection = sqlite3.connect(path)
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
            connection.close()

    async def make_store(self) -> Store:
        path = next(self.files)
        self.made.append(path)
        store = SqliteStore(path)
        await store.open(HostId("maker"))
        await store.close()
        stdin = self.disturber.stdin
        assert stdin is not None
        stdin.write(f"{path}\n".encode())
        stdin.flush()
        with anyio.fail_after(self.limit_seconds):
            while not was_disturbed(path):  # noqa: ASYNC110 - another process tells nobody
                await anyio.sleep(0.005)
        return store

    async def make_again(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        return SqliteStore(store.path)

    async def make_second(self, store: Store) -> Store:
        return await self.make_again(store)


class TestStore(Disturbed, StoreContract):
    pass


class TestAccept(Disturbed, AcceptContract):
    pass


class TestAdvance(Disturbed, AdvanceContract):
    pass


class TestAssignment(Disturbed, AssignmentContract):
    pass


class TestCancel(Disturbed, CancelContract):
    pass


class TestQueue(Disturbed, QueueContract):
    pass


class TestRepository(Disturbed, RepositoryContract):
    pass


class TestRegistry(Disturbed, RegistryContract):
    pass


class TestLog(Disturbed, LogContract):
    pass


class TestHosts(Disturbed, HostContract):
    async def test_a_write_of_another_host_is_noticed_and_ones_own_is_not(self) -> None:
        """Here somebody writes all the time, and each of it is noticed."""
        async with self.shared() as (a, _):
            hosts = a.store.hosts
            assert hosts is not None
            for _ in range(3):
                await hosts.others_wrote()
