"""The contract of a store: one technology's queue, repository, registry and logs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from hodei_core.ids import HostId
from hodei_core.ports.changes import Change, Outcome
from hodei_core.ports.hosts import HostRegistry
from hodei_core.ports.logstore import LogStore
from hodei_core.ports.queue import JobQueue
from hodei_core.ports.registry import WorkerRegistry
from hodei_core.ports.repository import JobRepository
from hodei_core.retention import Retention


class Store(ABC):
    """Where jobs, workers and logs are kept.

    Everything is written by `apply`; the reading sides see what is committed. Values go in
    and come out: changing one that came out changes nothing here.
    """

    durable: bool
    """Whether jobs outlive the host. One that is not durable is read after its close, too."""

    @property
    @abstractmethod
    def queue(self) -> JobQueue:
        """What waits."""

    @property
    @abstractmethod
    def jobs(self) -> JobRepository:
        """All jobs."""

    @property
    @abstractmethod
    def workers(self) -> WorkerRegistry:
        """All workers."""

    @property
    @abstractmethod
    def logs(self) -> LogStore:
        """All logs."""

    @property
    def hosts(self) -> HostRegistry | None:
        """The hosts that share it; None: it is of one host at a time."""
        return None

    @property
    def retention(self) -> Retention | None:
        """What hosts that dispatch have deleted as time goes by (`Retain`); None: nothing."""
        return None

    @property
    def directory(self) -> Path | None:
        """Where hosts keep files of their own, while it is open; None: nowhere.

        A file is named by `file_name` of the id of a host or worker, and a suffix. It is removed
        when that is in no row any more, unless it is locked (`flock` or `lockf`).
        """
        return None

    @abstractmethod
    async def open(self, host_id: HostId) -> None:
        """Make ready for one host.

        Raises:
            RuntimeError: it is open already: a store belongs to one `Hodei` at a time.
            StoreInvalidError: its content cannot be read.
        """

    @abstractmethod
    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make the changes in order, in one transaction; return an outcome for each.

        What is read after it returns has them all. A change that is refused (a version that
        moved on, a key conflict) leaves the others alone: its outcome says so. A cancelled
        call has made all of the changes or none.

        Raises:
            HodeiError: nothing was changed (StoreBusyError, StoreFullError, ...). One that sets
                `StoreInvalidError.gone`, of reading sides too, keeps nobody who leaves waiting.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release what `open` took; idempotent."""
