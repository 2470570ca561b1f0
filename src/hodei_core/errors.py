"""Every error this library raises on purpose.

HodeiError
├── InvalidJobError        (ValueError)    a field of a job that cannot be accepted
├── KeyConflictError       (ValueError)    an idempotency key that belongs to other work
├── OutputTooLargeError    (ValueError)    more output than fits in one answer
├── JobNotFoundError       (LookupError)   no job of this id is stored
├── OutputLostError        (LookupError)   a part of the output is no longer stored
├── StoreBusyError         (TimeoutError)  the store stayed locked
├── JobFailedError         (RuntimeError)  a job ended without success, and success was asked for
├── JobNotFinalError       (RuntimeError)  the job has not ended yet
├── QueueFullError         (RuntimeError)  `max_pending` jobs are waiting already
├── HodeiClosedError       (RuntimeError)  this `Hodei` is not open, or no longer
├── HodeiBrokenError       (RuntimeError)  a loop of the library failed by a bug
├── ForkedError            (RuntimeError)  used in a forked child of the process that opened it
├── StoreFullError         (RuntimeError)  the store has no space
├── StoreInvalidError      (RuntimeError)  what the store holds cannot be read
└── ProvisionError         (RuntimeError)  a provider could not make a worker

Each carries its data as attributes and survives pickling. Errors of a driver stand
behind ours as their cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hodei_core.results import JobResult


_SHOWN_CHARACTERS = 80


def shown(value: object) -> str:
    """Return a value as a message shows it: its repr, cut where it gets long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out a number of thousands of digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


class HodeiError(Exception):
    """The root of every error that this library raises on purpose."""


class InvalidJobError(HodeiError, ValueError):
    """A field of a job is not acceptable; nothing was stored."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        """The name of the field at fault."""


class KeyConflictError(HodeiError, ValueError):
    """The idempotency key belongs to a job with another spec, or to one that has not ended."""

    def __init__(self, message: str, *, key: str = "", job_id: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.job_id = job_id
        """The job that holds the key."""


class OutputTooLargeError(HodeiError, ValueError):
    """The output is larger than one answer may be; read it with `logs()`."""

    def __init__(self, message: str, *, job_id: str = "", limit_bytes: int = 0) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.limit_bytes = limit_bytes


class JobNotFoundError(HodeiError, LookupError):
    """No job of this id is stored: it never was, or it was pruned."""

    def __init__(self, message: str, *, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class OutputLostError(HodeiError, LookupError):
    """A part of the output is no longer stored, so its bytes cannot be given exactly."""

    def __init__(self, message: str, *, job_id: str = "", lost: int = 0) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.lost = lost
        """How many log entries are missing."""


class StoreBusyError(HodeiError, TimeoutError):
    """The store stayed locked by somebody else for longer than a call waits."""


class JobFailedError(HodeiError, RuntimeError):
    """A job did not succeed, and its caller asked to be told so by an exception."""

    def __init__(self, message: str, *, result: JobResult | None = None) -> None:
        super().__init__(message)
        self.result = result
        """How the job ended."""


class JobNotFinalError(HodeiError, RuntimeError):
    """The job has not ended yet, and the call needs one that has."""

    def __init__(self, message: str, *, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class QueueFullError(HodeiError, RuntimeError):
    """As many jobs wait as `max_pending` allows; nothing was stored."""

    def __init__(self, message: str, *, max_pending: int = 0) -> None:
        super().__init__(message)
        self.max_pending = max_pending


class HodeiClosedError(HodeiError, RuntimeError):
    """The call needs an open `Hodei`: this one was not opened yet, or is closing or closed."""


class HodeiBrokenError(HodeiError, RuntimeError):
    """A loop of the library failed by a bug; the cause is attached. Open a new `Hodei`."""


class ForkedError(HodeiError, RuntimeError):
    """A `Hodei` was used in a forked child of the process that opened it."""


class StoreFullError(HodeiError, RuntimeError):
    """The store has no space left; nothing of the call was stored."""


class StoreInvalidError(HodeiError, RuntimeError):
    """The store's content cannot be read by this version of the library; it was not touched."""

    def __init__(self, message: str, *, job_id: str = "", gone: bool = False) -> None:
        super().__init__(message)
        self.job_id = job_id
        """The job that cannot be read, if it is that alone."""

        self.gone = gone
        """Whether all of it is gone: it was deleted or replaced while it was open."""


class ProvisionError(HodeiError, RuntimeError):
    """A provider could not make a worker."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        """Whether the provider says that it can never make such a worker."""
