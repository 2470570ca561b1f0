"""One attempt as its worker sees it: what to run, where the output goes, how it ended."""

from __future__ import annotations

from abc import ABC, abstractmethod

import attrs

from hodei_core.ids import JobId
from hodei_core.jobs import Usage
from hodei_core.logs import LogSource
from hodei_core.specs import JobSpec
from hodei_core.values import Value


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Execution(Value):
    """What a worker is to run."""

    job_id: JobId
    attempt: int
    """The number of the attempt, from 1."""

    spec: JobSpec


@attrs.frozen(kw_only=True, weakref_slot=False, eq=False, repr=False)
class Exit(Value):
    """How an attempt ended on its worker."""

    code: int | None
    """0-255, or 128 + n if signal n ended the leader; None if nothing exited."""

    usage: Usage | None = None
    out_of_memory: bool = False
    """Whether it was ended for using more memory than allowed; not told by every worker."""


class Output(ABC):
    """Where a handler writes what its job prints."""

    @abstractmethod
    async def write(self, data: bytes | str, source: LogSource = LogSource.STDOUT) -> None:
        """Append to the job's output; waits while its buffer is full.

        Raises:
            RuntimeError: the handler has ended already.
            ValueError: `source` is SYSTEM, which is the library's own.
        """
