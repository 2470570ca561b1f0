"""Run jobs from inside a Python program: queue, workers, live logs, results.

Everything is importable from here, backends from `hodei_core.backends.<name>`, contracts from
`hodei_core.ports`, aids for tests from `hodei_core.testing`.
"""

import logging

from hodei_core.clock import Clock, SystemClock
from hodei_core.errors import (
    ForkedError,
    HodeiBrokenError,
    HodeiClosedError,
    HodeiError,
    InvalidJobError,
    JobFailedError,
    JobNotFinalError,
    JobNotFoundError,
    KeyConflictError,
    OutputLostError,
    OutputTooLargeError,
    ProvisionError,
    QueueFullError,
    StoreBusyError,
    StoreFullError,
    StoreInvalidError,
)
from hodei_core.events import (
    Event,
    JobAssigned,
    JobEvent,
    JobFinished,
    JobRetried,
    JobStarted,
    JobStuck,
    JobSubmitted,
    ProviderEvent,
    ProviderRecovered,
    ProviderTripped,
    SubscriberLagged,
    WorkerDraining,
    WorkerEvent,
    WorkerLost,
    WorkerProvisioning,
    WorkerReady,
    WorkerTerminated,
)
from hodei_core.executions import Execution, Exit, Output
from hodei_core.explanations import Explanation
from hodei_core.handle import JobHandle
from hodei_core.hodei import Hodei
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Attempt, Job, Usage
from hodei_core.logs import LogEntry, LogSource
from hodei_core.policies import WorkerPolicy
from hodei_core.resources import Resources
from hodei_core.results import JobResult
from hodei_core.retention import Retention
from hodei_core.retry import Backoff, RetryPolicy
from hodei_core.runtime.event_bus import EventStream
from hodei_core.runtime.log_stream import LogStream
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.decisions import (
    Assign,
    Provision,
    Reject,
    SchedulingDecision,
    Wait,
)
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.scheduler import FleetView, Scheduler, SmartScheduler
from hodei_core.scheduling.strategies import (
    ProviderStrategy,
    WorkerStrategy,
    affinity,
    fastest_startup,
    first_available,
    least_loaded,
    lowest_cost,
    most_capacity,
    round_robin,
)
from hodei_core.specs import Command, JobFields, JobSpec
from hodei_core.states import JobState, Reason, WaitingFor
from hodei_core.stats import ProviderStats, Stats
from hodei_core.workers import Offer, Worker, WorkerState

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "Assign",
    "Attempt",
    "Backoff",
    "Candidate",
    "Clock",
    "Command",
    "Event",
    "EventStream",
    "Execution",
    "Exit",
    "Explanation",
    "FleetView",
    "ForkedError",
    "Hodei",
    "HodeiBrokenError",
    "HodeiClosedError",
    "HodeiError",
    "HostId",
    "InvalidJobError",
    "Job",
    "JobAssigned",
    "JobEvent",
    "JobFailedError",
    "JobFields",
    "JobFinished",
    "JobHandle",
    "JobId",
    "JobNotFinalError",
    "JobNotFoundError",
    "JobResult",
    "JobRetried",
    "JobSpec",
    "JobStarted",
    "JobState",
    "JobStuck",
    "JobSubmitted",
    "KeyConflictError",
    "LogEntry",
    "LogSource",
    "LogStream",
    "Needs",
    "Offer",
    "Output",
    "OutputLostError",
    "OutputTooLargeError",
    "ProviderEvent",
    "ProviderRecovered",
    "ProviderStats",
    "ProviderStrategy",
    "ProviderTripped",
    "ProviderView",
    "Provision",
    "ProvisionError",
    "QueueFullError",
    "Reason",
    "Reject",
    "Resources",
    "Retention",
    "RetryPolicy",
    "Scheduler",
    "SchedulingDecision",
    "SmartScheduler",
    "Stats",
    "StoreBusyError",
    "StoreFullError",
    "StoreInvalidError",
    "SubscriberLagged",
    "SystemClock",
    "Usage",
    "Wait",
    "WaitingFor",
    "Worker",
    "WorkerDraining",
    "WorkerEvent",
    "WorkerId",
    "WorkerLost",
    "WorkerPolicy",
    "WorkerProvisioning",
    "WorkerReady",
    "WorkerState",
    "WorkerStrategy",
    "WorkerTerminated",
    "affinity",
    "fastest_startup",
    "first_available",
    "least_loaded",
    "lowest_cost",
    "most_capacity",
    "round_robin",
]
