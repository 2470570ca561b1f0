"""The suites that a backend must pass: plain classes of async tests, to be subclassed.

A store passes all of the suites over `StoreSuite`, a provider all of those over
`ProviderSuite`; each says there how one is made. Nothing here imports a test runner.
"""

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
]
