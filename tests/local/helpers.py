"""What the tests of the local backend share: a recording output, open sessions, facts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from hodei_core.backends.local import LocalProvider
from hodei_core.backends.local.session import LocalSession
from hodei_core.clock import SystemClock
from hodei_core.executions import Execution, Exit
from hodei_core.ids import HostId, IdSource, WorkerId
from hodei_core.logs import LogSource
from hodei_core.ports import AttemptOutput, ProviderHost
from hodei_core.specs import JobSpec

IDS = IdSource()
REPOSITORY = Path(__file__).parents[2]
SOURCE_ROOT = REPOSITORY / "src"


class Recorder(AttemptOutput):
    """Keeps all that an attempt says; `limit` bytes fill it until `make_room`."""

    def __init__(self, *, grace: float = 5.0, limit: int | None = None) -> None:
        self.calls: list[str] = []
        self.ago: float | None = None
        self.data = {LogSource.STDOUT: bytearray(), LogSource.STDERR: bytearray()}
        self.room = limit
        self._grace = grace
        self._changed = anyio.Event()

    @property
    def stdout(self) -> bytes:
        return bytes(self.data[LogSource.STDOUT])

    @property
    def stderr(self) -> bytes:
        return bytes(self.data[LogSource.STDERR])

    @property
    def grace(self) -> float:
        return self._grace

    def started(self, ago: float = 0.0) -> None:
        self.calls.append("started")
        self.ago = ago
        self._notify()

    def feed(self, source: LogSource, data: bytes) -> bool:
        assert data
        self.calls.append("feed")
        self.data[source] += data
        if self.room is not None:
            self.room -= len(data)
        self._notify()
        return self.room is None or self.room > 0

    def finish(self, source: LogSource) -> None:
        self.calls.append(f"finish {source.value}")
        self._notify()

    async def ready(self) -> None:
        self.calls.append("ready")
        self._notify()
        while self.room is not None and self.room <= 0:
            await self._changed.wait()

    def make_room(self, size: int) -> None:
        assert self.room is not None
        self.room = size
        self._notify()

    async def saw(self, text: bytes, source: LogSource = LogSource.STDOUT) -> bytes:
        """Return the output once it holds a text."""
        while text not in self.data[source]:
            await self._changed.wait()
        return bytes(self.data[source])

    async def pids(self, count: int) -> list[int]:
        """Return the numbers that the job prints, one a line, once there are so many."""
        with anyio.fail_after(20):
            while self.stdout.count(b"\n") < count:
                await self._changed.wait()
        return pids_in(self.stdout)

    async def called(self, name: str) -> None:
        while name not in self.calls:
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def execution(command: Any, **fields: Any) -> Execution:
    return Execution(job_id=IDS.job_id(), attempt=1, spec=JobSpec(command, **fields))


def new_host() -> ProviderHost:
    return ProviderHost(host_id=IDS.host_id(), clock=SystemClock())


class Local:
    """An open provider with one session that is served."""

    def __init__(self, provider: LocalProvider, session: LocalSession, host_id: HostId) -> None:
        self.provider = provider
        self.session = session
        self.host_id = host_id

    @property
    def guard_pid(self) -> int:
        return self.session.guard_pid

    async def run(self, command: Any, **fields: Any) -> tuple[Exit, Recorder]:
        """Run one job to its end, within 20 seconds."""
        output = Recorder()
        with anyio.fail_after(20):
            end = await self.session.execute(execution(command, **fields), output)
        return end, output

    async def text(self, command: Any, **fields: Any) -> str:
        """Return what a job that must succeed prints."""
        end, output = await self.run(command, **fields)
        assert (end.code, output.stderr) == (0, b"")
        return output.stdout.decode()


@asynccontextmanager
async def local(**arguments: Any) -> AsyncIterator[Local]:
    """Open a provider with one worker; on exit nothing of it may be left."""
    provider = LocalProvider(**arguments)
    host = new_host()
    await provider.open(host)
    try:
        session = await provider.provision(WorkerId("local-test"))
        assert isinstance(session, LocalSession)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            with anyio.fail_after(60):
                yield Local(provider, session, host.host_id)
                await session.terminate()
    finally:
        await provider.close()
    assert marked(host.host_id) == []


class Started:
    """An attempt that runs in a task of its own and can be cancelled."""

    def __init__(self, output: Recorder) -> None:
        self.output = output
        self.scope = anyio.CancelScope()
        self.end: Exit | None = None
        self.error: Exception | None = None
        self.done = anyio.Event()

    async def cancelled(self) -> Exit:
        """Cancel it; return how it ended."""
        self.scope.cancel()
        await self.done.wait()
        assert self.end is not None, f"the cancellation was let through, or {self.error!r}"
        return self.end


@asynccontextmanager
async def started(
    here: Local, command: Any, *, grace: float = 5.0, **fields: Any
) -> AsyncIterator[Started]:
    """Run a job until the block is left, which cancels it."""
    job = Started(Recorder(grace=grace))

    async def run() -> None:
        try:
            with job.scope:
                job.end = await here.session.execute(execution(command, **fields), job.output)
        except Exception as error:
            job.error = error
        finally:
            job.done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        with anyio.fail_after(30):
            yield job
        job.scope.cancel()


class Watched:
    """A process that must end: named by a pidfd, so that nothing else is taken for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)

    async def gone(self, seconds: float = 5.0) -> None:
        """Return when it has ended."""
        with anyio.fail_after(seconds):
            await anyio.wait_readable(self.pidfd)

    def signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self.pidfd, number)


@contextmanager
def watching(*pids: int) -> Iterator[list[Watched]]:
    """Watch processes; whatever happens, end them in the end."""
    watched = [Watched(pid) for pid in pids]
    try:
        yield watched
    finally:
        for process in watched:
            with suppress(ProcessLookupError):
                process.signal(signal.SIGKILL)
            os.close(process.pidfd)


def marked(host_id: str) -> list[int]:
    """Return the live processes that carry a host's mark."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"HODEI_HOST=" + host_id.encode() in environment:
                found.append(int(name))
    return found


def state(pid: int) -> str:
    """Return the letter of a process's state, "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    return state(pid) not in ("", "Z")


def zombies_of(pid: int) -> list[int]:
    """Return the children of a process that have ended and were not waited for."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z" and int(fields[1]) == pid:
                found.append(int(name))
    return found


def pids_in(text: bytes) -> list[int]:
    """Return the numbers that a job has printed, one a line."""
    return [int(word) for word in text.split()]


PYTHON = sys.executable


def script_environment() -> dict[str, str]:
    paths = [str(SOURCE_ROOT), str(REPOSITORY)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error"}
