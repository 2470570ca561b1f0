"""Aids for tests: a clock that is set by hand, and the suites that backends must pass."""

from hodei_core.testing.checkpoints import count_checkpoints, run_cancelled_at
from hodei_core.testing.clock import FakeClock
from hodei_core.testing.contracts.accept import AcceptContract
from hodei_core.testing.contracts.advance import (
    AdvanceContract,
    AssignmentContract,
    CancelContract,
)
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite
from hodei_core.testing.contracts.logs import LogContract
from hodei_core.testing.contracts.output import RecordedOutput
from hodei_core.testing.contracts.provider import (
    ProgramContract,
    ProviderContract,
    ProviderSuite,
    SessionContract,
)
from hodei_core.testing.contracts.queue import QueueContract
from hodei_core.testing.contracts.registry import RegistryContract
from hodei_core.testing.contracts.repository import RepositoryContract
from hodei_core.testing.contracts.store import StoreContract

__all__ = [
    "AcceptContract",
    "AdvanceContract",
    "AssignmentContract",
    "CancelContract",
    "FakeClock",
    "LogContract",
    "ProgramContract",
    "ProviderContract",
    "ProviderSuite",
    "QueueContract",
    "RecordedOutput",
    "RegistryContract",
    "RepositoryContract",
    "SessionContract",
    "StoreContract",
    "StoreDriver",
    "StoreSuite",
    "count_checkpoints",
    "run_cancelled_at",
]
