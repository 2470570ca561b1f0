"""The library without `async`: the same `Hodei`, for plain scripts and for threads."""

from hodei_core.blocking.handle import JobHandle
from hodei_core.blocking.hodei import Hodei
from hodei_core.blocking.streams import EventStream, LogStream

__all__ = ["EventStream", "Hodei", "JobHandle", "LogStream"]
