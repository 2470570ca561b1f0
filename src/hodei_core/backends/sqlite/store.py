"""A store in a SQLite file, which survives its hosts and which several of them may share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from hodei_core.backends.sqlite import connection, faults, files
from hodei_core.backends.sqlite.connection import Connection
from hodei_core.backends.sqlite.hostfiles import HostFiles
from hodei_core.backends.sqlite.logs import SqliteLogStore
from hodei_core.backends.sqlite.reader import Reader, post
from hodei_core.backends.sqlite.readers import (
    SqliteHostRegistry,
    SqliteJobQueue,
    SqliteJobRepository,
    SqliteWorkerRegistry,
)
from hodei_core.backends.sqlite.writer import Writer
from hodei_core.clock import SystemClock
from hodei_core.errors import (
    ForkedError,
    HodeiClosedError,
)
from hodei_core.ids import HostId
from hodei_core.ports import (
    Change,
    HostRegistry,
    JobQueue,
    JobRepository,
    LogStore,
    Outcome,
    Store,
    WorkerRegistry,
)
from hodei_core.retention import Retention

_LOOK_SECONDS = 0.2  # between looks whether others wrote, and at the locks of other hosts
_LEAST_SECONDS = 0.01

_DEFAULT_RETENTION = Retention()


class SqliteStore(Store):
    """Keeps jobs, workers and logs in a SQLite file; asyncio only.

    Several processes may open one file: hosts that dispatch share the work, others submit and
    read.

    Args:
        path: the file, made if there is none, readable by its owner alone; one that is there
            keeps its mode. It must lie where locks hold: on no network file system.
        synchronous: "FULL": what was accepted survives a power cut; "NORMAL": it survives the
            end of every process, and a power cut may take the last commits.
        retention: what is deleted as time goes by, as long as a host dispatches; None: nothing.

    Raises:
        ValueError: `synchronous` is neither.
        TypeError: `retention` is none.
    """

    durable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: files.Synchronous = "FULL",
        retention: Retention | None = _DEFAULT_RETENTION,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            msg = f"synchronous must be 'FULL' or 'NORMAL', not {synchronous!r}"
            raise ValueError(msg)
        self._path = Path(path)
        self._retention = _checked_retention(retention)
        self._synchronous: files.Synchronous = synchronous
        self._is_open = False
        self._pid = 0
        self._data_version = 0
        self._writing: Connection | None = None
        self._reading: Connection | None = None
        self._listing: Connection | None = None
        self._place: files.Place | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._lister: Reader | None = None
        self._versions: Reader | None = None
        self._queue = SqliteJobQueue(self._select, SystemClock(), self._mine)
        self._jobs = SqliteJobRepository(self._select, self._list)
        self._workers = SqliteWorkerRegistry(self._select)
        self._logs = SqliteLogStore(self._select, self._list)
        self._hosts = SqliteHostRegistry(
            self._select, self._others_wrote, self._deaths, self._is_dead
        )
        self._files: HostFiles | None = None

    def __repr__(self) -> str:
        return f"SqliteStore({str(self._path)!r}, synchronous={self._synchronous!r})"

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def queue(self) -> JobQueue:
        return self._queue

    @property
    def jobs(self) -> JobRepository:
        return self._jobs

    @property
    def workers(self) -> WorkerRegistry:
        return self._workers

    @property
    def logs(self) -> LogStore:
        return self._logs

    @property
    def hosts(self) -> HostRegistry:
        return self._hosts

    @property
    def retention(self) -> Retention | None:
        return self._retention

    @property
    def directory(self) -> Path | None:
        """The hosts' own files: `<file name>-hosts` beside the file itself, not beside a link."""
        return Path(f"{os.path.realpath(self._path)}-hosts") if self._is_open else None

    async def open(self, host_id: HostId) -> None:
        """Make ready for one host, and bring the schema up to date.

        Raises:
            RuntimeError: it is open already, or the event loop is not asyncio's.
            StoreInvalidError: the file is no store, or one of a newer version.
            StoreBusyError: the file stayed locked.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            msg = "SqliteStore needs asyncio: its driver, aiosqlite, does not run on trio"
            raise RuntimeError(msg) from None
        self._check_process()
        if self._is_open:
            msg = "this SqliteStore belongs to another open Hodei"
            raise RuntimeError(msg)
        self._is_open = True
        self._pid = os.getpid()
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        self._path = self._path.absolute()
        folder = self.directory
        assert folder is not None, "it is being opened"  # noqa: S101
        host_files = HostFiles(folder, self._select)
        host_files.check()  # before a file is made beside what is somebody else's
        self._writing, self._place = await connection.open_writer(self._path, self._synchronous)
        self._reading = await connection.open_reader(self._path, self._place)
        self._listing = await connection.open_reader(self._path, self._place)
        self._writer = Writer(partial(post, self._writing))
        self._reader = Reader(partial(post, self._reading))
        self._lister = Reader(partial(post, self._listing))
        self._versions = Reader(partial(post, self._writing))
        self._data_version = await self._version()
        await self._hosts.begin(self._writer.number)
        self._files = host_files
        await host_files.open()

    async def close(self) -> None:
        """Release what `open` took; idempotent.

        Raises:
            ForkedError: it was opened by the parent process.
        """
        self._check_process()
        # An end of the event loop may cancel what a scope shields; each is closed all the same.
        with anyio.CancelScope(shield=True):
            try:
                if self._writer is not None:
                    await self._writer.until_idle()
            finally:
                await self._close()

    async def _close(self) -> None:
        connections = (self._listing, self._reading, self._writing)
        opened = [each for each in connections if each is not None]
        self._writer = self._reader = self._lister = self._versions = None
        self._listing = self._reading = self._writing = None
        if self._files is not None:
            self._files.close()
        self._files = None
        if self._place is not None and self._place.is_lost():
            for each in opened:
                each.lose()
            opened = []
        self._place = None
        self._is_open = False
        async with AsyncExitStack() as stack:
            for each in reversed(opened):
                stack.push_async_callback(each.close)

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        writer: Writer = self._checked(self._writer)
        host_files = self._files
        if host_files is not None:
            host_files.before(changes)
        with faults.translated(self._path):
            outcomes = await writer.apply(changes)
        if host_files is not None:
            await host_files.after(changes, outcomes)
        return outcomes

    def _mine(self) -> list[HostId]:
        return [] if self._files is None else list(self._files.mine)

    def _is_dead(self, host_id: HostId) -> bool:
        host_files: HostFiles = self._checked(self._files)
        return host_files.is_dead(host_id)

    async def _deaths(self) -> list[HostId]:
        others: list[HostId] = []
        seen: object = None
        while True:
            # Hosts come and go by somebody's write, so nobody need ask for them without one.
            state = (self._data_version, self._mine())
            if state != seen:
                registered = [record.id for record in await self._hosts.select()]
                others = [host_id for host_id in registered if host_id not in state[1]]
                seen = state
            dead = [host_id for host_id in others if self._is_dead(host_id)]
            if dead:
                return dead
            await _next_look()

    async def _select(self, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        return await self._fetch(self._reader, statement, arguments)

    async def _list(self, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return what may take long: nothing that hands out work waits behind it."""
        return await self._fetch(self._lister, statement, arguments)

    async def _fetch(
        self, reader: Reader | None, statement: str, arguments: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        checked: Reader = self._checked(reader)
        with faults.translated(self._path):
            return await checked.select(statement, arguments)

    def _checked(self, part: Any) -> Any:
        self._check_process()
        if part is None:
            msg = "this SqliteStore is not open"
            raise HodeiClosedError(msg)
        return part

    def _check_process(self) -> None:
        if self._is_open and os.getpid() != self._pid:
            msg = "this SqliteStore was opened by the parent process: open another one in the child"
            raise ForkedError(msg)

    async def _version(self) -> int:
        """Return a number that changes when somebody else commits."""
        versions: Reader = self._checked(self._versions)
        with faults.translated(self._path):
            ((version,),) = await versions.select("pragma data_version", ())
        return int(version)

    async def _others_wrote(self) -> None:
        while True:
            if self._place is not None:
                self._place.check()
            version = await self._version()
            if version != self._data_version:
                self._data_version = version
                return
            await _next_look()


async def _next_look() -> None:
    """Return at the next multiple of the time between looks: whoever looks wakes up together."""
    left = _LOOK_SECONDS - SystemClock().monotonic() % _LOOK_SECONDS
    await anyio.sleep(left if left > _LEAST_SECONDS else left + _LOOK_SECONDS)


def _checked_retention(retention: object) -> Retention | None:
    if retention is None or isinstance(retention, Retention):
        return retention
    msg = f"retention must be a Retention or None, not {type(retention).__name__}"
    raise TypeError(msg)
