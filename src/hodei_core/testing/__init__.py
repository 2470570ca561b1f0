"""Aids for tests: a clock that is set by hand, and the suites that backends must pass."""

from hodei_core.testing.checkpoints import count_checkpoints, run_cancelled_at
from hodei_core.testing.clock import FakeClock
from hodei_core.testing.contracts import (
    AcceptContract,
    AdvanceContract,
    AssignmentContract,
    CancelContract,
    LogContract,
    ProgramContract,
    ProviderContract,
    ProviderSuite,
    QueueContract,
    RecordedOutput,
    RegistryContract,
    RepositoryContract,
    SessionContract,
    StoreContract,
    StoreDriver,
    StoreSuite,
)

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
