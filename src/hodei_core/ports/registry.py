"""The contract of the reading side that shows workers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hodei_core.workers import Worker


class WorkerRegistry(ABC):
    """The workers of a store, read."""

    @abstractmethod
    async def select(self) -> list[Worker]:
        """Return every registered worker with the slots that its jobs hold, oldest first."""
