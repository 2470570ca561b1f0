"""The contract of the reading side that shows the hosts of a shared store."""

from __future__ import annotations

from abc import ABC, abstractmethod

import anyio
import attrs

from hodei_core.events import JobEvent
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, JobId
from hodei_core.jobs import Job
from hodei_core.ports.changes import CancelRequest
from hodei_core.scheduling.needs import Needs
from hodei_core.values import Value
from hodei_core.workers import Worker


@attrs.frozen(kw_only=True, eq=False, repr=False)
class News(Value):
    """What was done to jobs."""

    events: tuple[JobEvent, ...] = ()
    """In the order of their commits."""

    missed: int = 0
    """How many cannot be told: too old, or of jobs that were pruned; at least one if any."""

    needs: tuple[Needs, ...] = ()
    """The classes of needs in which others let jobs into the queue, or took some out of it."""

    more: bool = False
    """Whether to ask again at once: there was too much for one answer."""


class HostRegistry(ABC):
    """The hosts of a store that several of them share, and what dead ones left."""

    @abstractmethod
    async def select(self) -> list[HostRecord]:
        """Return every registered host, in the order in which they joined."""

    @abstractmethod
    async def others_wrote(self) -> None:
        """Return when anybody else has written since the last call returned.

        At most 0.3 s later, and without burning CPU while nobody writes.
        """

    async def dead(self) -> list[HostId]:
        """Return registered hosts that are certain to be dead; none where a store cannot tell."""
        return []

    async def deaths(self) -> list[HostId]:
        """Return registered hosts that are certain to be dead, once there are any.

        Unless a store can prove it, this never returns: then leases tell.
        """
        await anyio.sleep_forever()
        return []

    @abstractmethod
    async def news(self, *, everything: bool) -> News:
        """Return what was done to jobs since the last call, or since the opening.

        `everything`: all of it, what this host did as well, in the order of the commits. If not:
        how jobs ended that others ended. `needs` is told in either case. What is older than some
        20,000 events may be missed.
        """

    @abstractmethod
    async def abandoned_workers(self) -> list[Worker]:
        """Return the workers whose host is not registered, with the jobs that hold their slots."""

    @abstractmethod
    async def abandoned_jobs(self) -> list[Job]:
        """Return the ASSIGNED and RUNNING jobs whose attempt's host is not registered."""

    @abstractmethod
    async def cancel_requests(self, host_id: HostId) -> list[tuple[JobId, CancelRequest]]:
        """Return the requests stored with jobs that this host has, and with PENDING ones."""
