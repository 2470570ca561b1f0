"""Aids for tests: time that is set by hand or virtual, captured events, contract suites."""

from hodei_core.testing.acts import Act, Making
from hodei_core.testing.checkpoints import count_checkpoints, run_cancelled_at
from hodei_core.testing.clock import FakeClock
from hodei_core.testing.contracts.accept import AcceptContract
from hodei_core.testing.contracts.advance import (
    AdvanceContract,
    AssignmentContract,
    CancelContract,
)
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite
from hodei_core.testing.contracts.hosts import HostContract
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
from hodei_core.testing.contracts.retention import RetentionContract
from hodei_core.testing.contracts.store import StoreContract
from hodei_core.testing.events import CapturedEvents, capture_events
from hodei_core.testing.outside import LiveExecution, ScriptedWorker
from hodei_core.testing.scripted import ScriptedProvider
from hodei_core.testing.simulation import (
    SimulatedClock,
    SimulationStalledError,
    run_simulated,
    simulated,
    simulated_clock,
)

__all__ = [
    "AcceptContract",
    "Act",
    "AdvanceContract",
    "AssignmentContract",
    "CancelContract",
    "CapturedEvents",
    "FakeClock",
    "HostContract",
    "LiveExecution",
    "LogContract",
    "Making",
    "ProgramContract",
    "ProviderContract",
    "ProviderSuite",
    "QueueContract",
    "RecordedOutput",
    "RegistryContract",
    "RepositoryContract",
    "RetentionContract",
    "ScriptedProvider",
    "ScriptedWorker",
    "SessionContract",
    "SimulatedClock",
    "SimulationStalledError",
    "StoreContract",
    "StoreDriver",
    "StoreSuite",
    "capture_events",
    "count_checkpoints",
    "run_cancelled_at",
    "run_simulated",
    "simulated",
    "simulated_clock",
]
