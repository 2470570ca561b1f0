"""The contract of what makes workers, and of the line to one worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from enum import Enum
from pathlib import Path

import attrs

from hodei_core.clock import Clock
from hodei_core.executions import Execution, Exit
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Attempt
from hodei_core.logs import LogSource
from hodei_core.policies import WorkerPolicy
from hodei_core.values import Value
from hodei_core.workers import Offer


class StartFailedError(Exception):
    """The attempt cannot be started, here or again: the message says why, in words."""


class NotStartedError(Exception):
    """The attempt was proved not to have started, for a cause that passes: give it back."""


class WorkerLostError(Exception):
    """The worker is gone without plan; what it ran may have started."""


class EvidenceKind(Enum):
    """What is certain of an attempt whose host is dead."""

    NEVER_STARTED = "never_started"
    EXITED = "exited"
    UNKNOWN = "unknown"


@attrs.frozen(eq=False, repr=False)
class Evidence(Value):
    """What a provider can prove of an attempt on a worker that is gone."""

    kind: EvidenceKind
    exit: Exit | None = None
    """How it ended, if it EXITED."""

    at: datetime | None = None
    """When it EXITED, if that is known."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ProviderHost(Value):
    """What a provider is told of the host that opens it."""

    host_id: HostId
    """The incarnation; what a provider makes outside the process carries it as a mark."""

    clock: Clock
    directory: Path | None = None
    """Where files may be kept for hosts that come later (see `Store.directory`); None: nowhere."""


class AttemptOutput(ABC):
    """What the runtime gives a session for one attempt. All but `ready` is immediate.

    Called from the event loop's thread only.
    """

    @abstractmethod
    def started(self, ago: float = 0.0) -> None:
        """Tell that the attempt runs, since `ago` seconds. Once, before the first `feed`."""

    @abstractmethod
    def feed(self, source: LogSource, data: bytes) -> bool:
        """Take output. False: the buffer is full; read no more before `ready` returns.

        What is fed is kept in either case.
        """

    @abstractmethod
    def finish(self, source: LogSource) -> None:
        """Tell that the stream has ended, so that an unfinished line is delivered."""

    @abstractmethod
    async def ready(self) -> None:
        """Return when the buffer takes more."""

    @property
    @abstractmethod
    def grace(self) -> float:
        """Seconds from SIGTERM to SIGKILL, should the attempt be ended now."""


class WorkerSession(ABC):
    """The open line to one worker."""

    @abstractmethod
    async def run(self) -> None:
        """Serve the worker; returns after `terminate`, when it is gone.

        The runtime awaits this in a task of its own for as long as the worker lives; the
        session's own reading and writing happens in it.

        However it ends, by cancellation too, every `execute` under way then ends as well.

        Raises:
            WorkerLostError: the worker went away, or could not be served any longer. Every
                `execute` under way raises the same.
        """

    @abstractmethod
    async def heartbeat(self) -> None:
        """Return when the worker has answered; asked several times within its policy's lease.

        A worker that has not answered for its lease is lost. Never called without a lease.

        Raises:
            WorkerLostError: it is known to be gone.
        """

    @abstractmethod
    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        """Run one attempt to its end, its output fed and finished; return how it ended.

        Called for at most as many attempts at once as the worker has slots. However it ends,
        nothing of the attempt is left on the worker, unless it raises WorkerLostError.

        Cancelling the scope around the call ends the attempt: SIGTERM to all of it,
        `output.grace` seconds, SIGKILL. The call then *returns* the exit, the cancellation
        being served, once nothing is left; only where nothing had started does it let the
        cancellation through.

        Raises:
            StartFailedError: it cannot be started.
            NotStartedError: it was not started, and may be given to any worker again.
            WorkerLostError: the worker is gone. The attempt ends when `discard` has returned.
        """

    @abstractmethod
    async def terminate(self) -> None:
        """End the worker and all that runs on it; idempotent, returns when it is gone.

        Raises:
            Exception: it is not certain that it is gone; it is asked again.
        """


class WorkerProvider(ABC):
    """Makes workers on one technology.

    A provider belongs to the one `Hodei` that it was given to, which opens and closes it.
    """

    @property
    @abstractmethod
    def offer(self) -> Offer:
        """What every worker that it makes will have; constant from `open` on."""

    @property
    @abstractmethod
    def policy(self) -> WorkerPolicy:
        """How many workers it may have, and how long they live; constant from `open` on."""

    @abstractmethod
    async def open(self, host: ProviderHost) -> None:
        """Make ready; nothing was started outside the process when it raises.

        Raises:
            ProvisionError: it can make no worker here; the message names what is missing.
        """

    def renewed(self, host_id: HostId, seconds: float | None) -> None:  # noqa: B027 - may do nothing
        """Take note that the host's lease holds for so many seconds more, under this incarnation.

        None: no other host could take this one for dead, so nothing need end if the lease cannot
        be renewed. Told before anything is made under an incarnation, and after each renewal.
        When the lease is over, what was made must run nothing any more, also if the host itself
        is stopped; what cannot see to that does nothing here.

        Immediate; called from the event loop's thread only.
        """

    @abstractmethod
    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        """Make a worker and return the line to it, ready for `execute`.

        Called for several workers at once. It is cancelled when it takes longer than the
        policy's `startup_timeout`. When it raises or is cancelled, `discard` follows.

        Raises:
            ProvisionError: it could not; `permanent` says that it never can.
        """

    @abstractmethod
    async def discard(self, worker_id: WorkerId) -> None:
        """End what there is of a worker without a line; returns when nothing is left.

        For one whose making failed or was cancelled, however far it came, for one that was lost,
        and for one of a dead host that shared the store. Idempotent; a worker that never was is
        no error.

        Raises:
            Exception: it is not certain that nothing is left; it is asked again.
        """

    async def evidence(self, attempt: Attempt, job_id: JobId) -> Evidence:
        """Return what is certain of an attempt of a dead host, whose worker was discarded.

        Unless a provider can prove more, the attempt counts as started.
        """
        del attempt, job_id
        return Evidence(EvidenceKind.UNKNOWN)

    @abstractmethod
    async def close(self) -> None:
        """End all that the provider made; idempotent, returns when nothing is left.

        Cancelled after 60 seconds: what is left then is for the next host to end.
        """
