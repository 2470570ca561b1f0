"""The simulated store keeps every contract of a store that hosts share."""

from __future__ import annotations

import pytest

from hodei_core.clock import SystemClock
from hodei_core.ports import Store
from hodei_core.testing import (
    AcceptContract,
    AdvanceContract,
    AssignmentContract,
    CancelContract,
    HostContract,
    QueueContract,
    RepositoryContract,
    StoreSuite,
)
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.store import Power, SimulatedStore


def connect(disk: Disk) -> SimulatedStore:
    """Return a connection without faults."""
    return SimulatedStore(disk, Power(), Faults.none(), lambda: None, SystemClock())


class Simulated(StoreSuite):
    @pytest.fixture(autouse=True)
    def no_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The suites assign jobs to workers of no host, and more often than a policy allows.
        monkeypatch.setattr("tests.simulation.disk.check_change", lambda before, after: None)

    async def make_store(self) -> Store:
        return connect(Disk(History(), lambda: 0.0))


class TestAccept(Simulated, AcceptContract):
    pass


class TestAdvance(Simulated, AdvanceContract):
    pass


class TestAssignment(Simulated, AssignmentContract):
    pass


class TestCancel(Simulated, CancelContract):
    pass


class TestQueue(Simulated, QueueContract):
    pass


class TestRepository(Simulated, RepositoryContract):
    pass


class TestHosts(Simulated, HostContract):
    async def make_second(self, store: Store) -> Store:
        assert isinstance(store, SimulatedStore)
        return connect(store.disk)
