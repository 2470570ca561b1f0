"""The provider of the one local worker: the machine that the host runs on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import anyio

from hodei_core.ambient import ambient
from hodei_core.backends.local.environment import base_environment
from hodei_core.backends.local.lease import Lease
from hodei_core.backends.local.limits import usable_cpus, usable_memory
from hodei_core.checks import MAX_SLOTS
from hodei_core.errors import ProvisionError
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Attempt
from hodei_core.policies import WorkerPolicy
from hodei_core.ports.provider import Evidence, ProviderHost, WorkerProvider, WorkerSession
from hodei_core.resources import Resources
from hodei_core.workers import Offer

if TYPE_CHECKING:
    from hodei_core.backends.local.remains import Remains
    from hodei_core.backends.local.session import LocalSession

_END_SECONDS = 10.0
MARGIN_SECONDS = 2.0
"""How long before the end of its host's lease a guard ends all that runs."""

_POLICY = WorkerPolicy(min_workers=1, max_workers=1, idle_timeout=None)


class LocalProvider(WorkerProvider):
    """Runs jobs as processes of this machine (Linux 5.3 and up).

    A small process of its own, the guard, starts them and ends what they leave: when a job has
    ended, nothing of its tree is left; when the host is gone, however it went, nothing of any
    job is. What has left its session *and* has scrubbed its environment is ended when the
    provider closes, and what runs as another user only by itself.

    Jobs are not isolated from the user who runs the host: this is no sandbox.

    Args:
        name: Its name, which jobs may ask for.
        slots: How many jobs run at once; None: as many as CPUs may be used, by affinity and
            cgroup quota.
        labels: What its worker has for jobs that require labels.
        resources: What jobs may take together; None: a CPU for each slot and the memory that
            may be used. It is reserved, not enforced.
        env: "default": what programs need of the host's environment and no more, so that tokens
            do not leak; "inherit": all of it; a mapping: that. A job's own `env` comes on top.
        cwd: The directory of jobs that name none; None: the host's when it opens.
        limit_memory: Whether a job's memory limits the data segment (RLIMIT_DATA) of each of
            its processes: a guard rail, no limit for the tree.
        python: The interpreter for the guard, 3.10 or newer; None: the host's own.

    Raises:
        TypeError: an argument is of the wrong type; the message names it.
        ValueError: an argument has no acceptable value; the message names it.
    """

    def __init__(
        self,
        *,
        name: str = "local",
        slots: int | None = None,
        labels: Mapping[str, str] = {},
        resources: Resources | None = None,
        env: Literal["default", "inherit"] | Mapping[str, str] = "default",
        cwd: str | os.PathLike[str] | None = None,
        limit_memory: bool = False,
        python: str | os.PathLike[str] | None = None,
    ) -> None:
        _check_name(name)
        _check_slots(slots)
        _check_texts("labels", labels)
        _check_env(env)
        if resources is not None and not isinstance(resources, Resources):
            raise TypeError(f"resources: must be Resources, not {type(resources).__name__}")
        if not isinstance(limit_memory, bool):
            raise TypeError(f"limit_memory: must be a bool, not {type(limit_memory).__name__}")
        count = usable_cpus() if slots is None else slots
        self._offer = Offer(
            provider=name,
            slots=count,
            resources=Resources(count, usable_memory()) if resources is None else resources,
            labels=labels,
        )
        self._env = env if isinstance(env, str) else dict(env)
        self._cwd = _path("cwd", cwd)
        self._limit_memory = limit_memory
        self._python = _path("python", python)
        self._host_id: str | None = None
        self._own_ids: set[str] = set()
        self._lease = Lease()
        self._remains: Remains | None = None
        self._base_env: dict[str, str] = {}
        self._sessions: dict[WorkerId, LocalSession] = {}

    @property
    def offer(self) -> Offer:
        return self._offer

    @property
    def policy(self) -> WorkerPolicy:
        return _POLICY

    async def open(self, host: ProviderHost) -> None:
        _check_time()
        _check_system()
        self._python = _interpreter(self._python)
        try:
            self._cwd = os.path.abspath(self._cwd or os.getcwd())  # noqa: ASYNC240 - no wait
        except FileNotFoundError as error:
            msg = "the host's working directory does not exist; name one with LocalProvider(cwd=)"
            raise ProvisionError(msg, permanent=True) from error
        if not os.path.isdir(self._cwd):  # noqa: ASYNC240 - no wait worth a thread
            raise ProvisionError(f"cwd: no such directory: {self._cwd!r}", permanent=True)
        self._base_env = base_environment(self._env)
        if host.directory is not None:
            from hodei_core.backends.local.remains import Remains

            self._remains = Remains(host.directory)
        self._host_id = host.host_id
        self._own_ids.add(host.host_id)

    def renewed(self, host_id: HostId, seconds: float | None) -> None:
        self._host_id = host_id
        self._own_ids.add(host_id)
        self._lease.renew(None if seconds is None else seconds - MARGIN_SECONDS)
        for session in self._sessions.values():
            session.hold_until(self._lease.until)

    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        if self._host_id is None or self._python is None or self._cwd is None:
            raise ProvisionError("the provider is not open")
        await self._lease.held()
        # Only now: other systems lack modules that these load, and `open` must say so by name.
        from hodei_core.backends.local.process import GuardProcess
        from hodei_core.backends.local.session import LocalSession

        host_id = self._host_id
        journal = None if self._remains is None else self._remains.path(worker_id)
        try:
            if journal is not None:  # somebody may have deleted its directory
                journal.parent.mkdir(mode=0o700, exist_ok=True)
            guard = GuardProcess.start(self._python, journal=journal, host_id=host_id)
        except OSError as error:
            raise ProvisionError(f"the guard could not be started: {error}") from error
        try:
            await guard.wait_hello()
            session = LocalSession(
                guard,
                host_id=host_id,
                cwd=self._cwd,
                env=self._base_env,
                limit_memory=self._limit_memory,
            )
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                guard.kill()
                await guard.wait(_END_SECONDS)
                guard.close()
            if isinstance(error, OSError):
                raise ProvisionError(f"the guard could not be started: {error}") from error
            raise
        self._sessions = {of: old for of, old in self._sessions.items() if not old.ended}
        self._sessions[worker_id] = session
        session.hold_until(self._lease.until)
        return session

    async def discard(self, worker_id: WorkerId) -> None:
        session = self._sessions.get(worker_id)
        if session is not None:
            await session.terminate()
            self._sessions.pop(worker_id, None)
        elif self._remains is not None:
            await self._remains.end(worker_id, self._own_ids)

    async def evidence(self, attempt: Attempt, job_id: JobId) -> Evidence:
        if self._remains is None:
            return await super().evidence(attempt, job_id)
        return await self._remains.evidence(attempt, job_id, self._own_ids)

    async def close(self) -> None:
        self._host_id = None
        for worker_id in list(self._sessions):
            await self.discard(worker_id)


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name: must be text, not {type(name).__name__}")
    if not name or not name.isprintable():
        raise ValueError(f"name: must be printable and not empty, not {name!r}")


def _check_slots(slots: int | None) -> None:
    if slots is None:
        return
    if isinstance(slots, bool) or not isinstance(slots, int):
        raise TypeError(f"slots: must be a whole number, not {type(slots).__name__}")
    if not 1 <= slots <= MAX_SLOTS:
        raise ValueError(f"slots: must be from 1 to {MAX_SLOTS}, not {slots}")


def _check_texts(argument: str, items: Mapping[Any, Any]) -> None:
    if not isinstance(items, Mapping):
        raise TypeError(f"{argument}: must be a mapping, not {type(items).__name__}")
    for name, value in items.items():
        if not isinstance(name, str) or not isinstance(value, str):
            kinds = f"{type(name).__name__} and {type(value).__name__}"
            raise TypeError(f"{argument}: must hold text and text, not {kinds}")
        if not name or "\0" in name + value:
            raise ValueError(f"{argument}: an empty name or a NUL character: {name!r}")


def _check_env(env: str | Mapping[str, str]) -> None:
    if isinstance(env, str):
        if env not in ("default", "inherit"):
            raise ValueError(f'env: must be "default", "inherit" or a mapping, not {env!r}')
        return
    _check_texts("env", env)
    for name in env:
        if "=" in name:
            raise ValueError(f"env: the name {name!r} must not contain '='")
        if name.startswith("HODEI_"):
            raise ValueError(f"env: the name {name!r} is reserved (HODEI_*)")


def _path(argument: str, value: str | os.PathLike[str] | None) -> str | None:
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise TypeError(f"{argument}: must be a path, not {type(value).__name__}")
    if not path or "\0" in path:
        raise ValueError(f"{argument}: must be a path, not {path!r}")
    return path


def _check_time() -> None:
    if ambient().simulated:
        msg = (
            "LocalProvider cannot work in a simulation: processes do not follow virtual time; "
            "give Hodei a MemoryProvider (hodei_core.backends.memory)"
        )
        raise ProvisionError(msg, permanent=True)


def _check_system() -> None:
    """Raise `ProvisionError` that names what the guard needs and the system lacks."""
    missing = None
    if sys.platform != "linux":
        missing = f"Linux is needed, this is {sys.platform}"
    elif not hasattr(os, "pidfd_open") or not hasattr(os, "memfd_create"):
        missing = "this Python was built without pidfd or memfd"
    else:
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError as error:
            missing = f"pidfd (Linux 5.3) is needed: {error}"
        if not missing and not _proc_is_ours():
            missing = "/proc is not mounted, or belongs to another pid namespace"
    if missing:
        raise ProvisionError(f"LocalProvider cannot work here: {missing}", permanent=True)


def _proc_is_ours() -> bool:
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _interpreter(python: str | None) -> str:
    """Return the absolute path of the interpreter for the guard.

    Raises:
        ProvisionError: there is none that may be run.
    """
    if python is None and (not sys.executable or getattr(sys, "frozen", False)):
        msg = (
            "LocalProvider needs a Python interpreter for its guard, and this program names none "
            "(sys.executable); name one with LocalProvider(python=...)"
        )
        raise ProvisionError(msg, permanent=True)
    path = os.path.abspath(python or sys.executable)
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        origin = "sys.executable" if python is None else "python"
        msg = f"{origin}: not a program that may be run: {path!r}; LocalProvider needs it"
        raise ProvisionError(msg, permanent=True)
    return path
