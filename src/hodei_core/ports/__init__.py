"""The contracts that backends fulfil: stores, and providers of workers."""

from hodei_core.executions import Execution, Exit, Output
from hodei_core.hosts import HostRecord
from hodei_core.ports.changes import (
    Accept,
    Advance,
    AppendLogs,
    CancelRequest,
    Change,
    Cover,
    JoinHost,
    MarkDue,
    Outcome,
    Prune,
    PutWorker,
    RemoveHost,
    RemoveWorker,
    RenewHost,
    RequestCancel,
    Retain,
    Submission,
)
from hodei_core.ports.hosts import HostRegistry, News
from hodei_core.ports.logstore import LogBounds, LogStore
from hodei_core.ports.provider import (
    AttemptOutput,
    Evidence,
    EvidenceKind,
    NotStartedError,
    ProviderHost,
    StartFailedError,
    WorkerLostError,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.ports.queue import JobQueue
from hodei_core.ports.registry import WorkerRegistry
from hodei_core.ports.repository import JobFilter, JobRepository
from hodei_core.ports.store import Store
from hodei_core.scheduling.needs import Needs

__all__ = [
    "Accept",
    "Advance",
    "AppendLogs",
    "AttemptOutput",
    "CancelRequest",
    "Change",
    "Cover",
    "Evidence",
    "EvidenceKind",
    "Execution",
    "Exit",
    "HostRecord",
    "HostRegistry",
    "JobFilter",
    "JobQueue",
    "JobRepository",
    "JoinHost",
    "LogBounds",
    "LogStore",
    "MarkDue",
    "Needs",
    "News",
    "NotStartedError",
    "Outcome",
    "Output",
    "ProviderHost",
    "Prune",
    "PutWorker",
    "RemoveHost",
    "RemoveWorker",
    "RenewHost",
    "RequestCancel",
    "Retain",
    "StartFailedError",
    "Store",
    "Submission",
    "WorkerLostError",
    "WorkerProvider",
    "WorkerRegistry",
    "WorkerSession",
]
