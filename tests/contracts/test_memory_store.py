"""The memory store passes every suite of a store."""

from __future__ import annotations

from hodei_core.backends.memory import MemoryStore
from hodei_core.ports import Store
from hodei_core.testing import (
    AcceptContract,
    AdvanceContract,
    AssignmentContract,
    CancelContract,
    LogContract,
    QueueContract,
    RegistryContract,
    RepositoryContract,
    StoreContract,
    StoreSuite,
)


class Memory(StoreSuite):
    async def make_store(self) -> Store:
        return MemoryStore()


class TestStore(Memory, StoreContract):
    pass


class TestAccept(Memory, AcceptContract):
    pass


class TestAdvance(Memory, AdvanceContract):
    pass


class TestAssignment(Memory, AssignmentContract):
    pass


class TestCancel(Memory, CancelContract):
    pass


class TestQueue(Memory, QueueContract):
    pass


class TestRepository(Memory, RepositoryContract):
    pass


class TestRegistry(Memory, RegistryContract):
    pass


class TestLogs(Memory, LogContract):
    pass
