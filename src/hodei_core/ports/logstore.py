"""The contract of the reading side that shows logs."""

from __future__ import annotations

from abc import ABC, abstractmethod

import attrs

from hodei_core.ids import JobId
from hodei_core.logs import LogSegment
from hodei_core.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class LogBounds(Value):
    """Which numbers of a job's log are stored."""

    last: int
    """The number of the last entry ever written; 0 if there was none."""

    lost: int
    """The number of the last entry that is no longer stored; 0 if all are.

    Stored are the entries above `lost` and up to `last`.
    """

    lost_attempt: int
    """The attempt that wrote entry `lost`; 0 if all are stored."""


class LogStore(ABC):
    """The logs of a store, read. Segments come whole, with the numbers they were written with."""

    @abstractmethod
    async def bounds(self, job_id: JobId) -> LogBounds:
        """Return which numbers are stored; of a job without a log: none, none lost."""

    @abstractmethod
    async def read(self, job_id: JobId, *, after: int, max_bytes: int) -> list[LogSegment]:
        """Return segments that hold entries above `after`, in order.

        At least one if there is any, then as many as fit into `max_bytes` of data.
        """

    @abstractmethod
    async def read_back(self, job_id: JobId, *, before: int, max_bytes: int) -> list[LogSegment]:
        """Return segments that start below `before`, the last first, bounded as in `read`."""
