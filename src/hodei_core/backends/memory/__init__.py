"""A store in memory, and workers that call a function: no process, no file."""

from hodei_core.backends.memory.provider import Handler, MemoryProvider
from hodei_core.backends.memory.store import MemoryStore

__all__ = ["Handler", "MemoryProvider", "MemoryStore"]
