"""The file of a store: what it may be, how it is opened, which errors it gives."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Literal

import aiosqlite

from hodei_core.backends.sqlite.writer import WritingConnection
from hodei_core.errors import HodeiError, StoreBusyError, StoreFullError, StoreInvalidError
from hodei_core.states import JobState

Synchronous = Literal["FULL", "NORMAL"]

BUSY_SECONDS = 5.0
"""How long a call waits for a file that somebody else has locked."""

OLDEST_SQLITE = (3, 35, 0)  # the first with `returning`
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_CACHED_STATEMENTS = 256
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "lustre"}
_NETWORK_FUSE = ("fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.davfs")

SCHEMA = 1
"""The newest schema that this version knows."""


def check(path: Path) -> None:
    """Check that a file may be a store, without touching it.

    Raises:
        StoreInvalidError: SQLite is too old, the file is none of ours, or it lies where locks
            do not work.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        msg = f"SQLite {sqlite3.sqlite_version} is too old for a store: {needed} is needed"
        raise StoreInvalidError(msg)
    kind = _file_system(path.parent)
    if kind in _NETWORK or kind.startswith(_NETWORK_FUSE):
        msg = f"{path} lies on a network file system ({kind}), where locks do not hold"
        raise StoreInvalidError(msg)
    if path.exists():
        _check_content(path)


def _check_content(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        msg = f"{path} is no file"
        raise StoreInvalidError(msg)
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
    if not size:
        return
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        msg = f"{path} is no SQLite database"
        raise StoreInvalidError(msg)
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    pages = int.from_bytes(header[28:32], "big")
    wal = path.with_name(path.name + "-wal")
    if size < page_bytes * pages and not (wal.exists() and wal.stat().st_size):
        msg = f"{path} is cut off: it has {size} of {page_bytes * pages} bytes"
        raise StoreInvalidError(msg)


def _file_system(folder: Path) -> str:
    """Return the type of the file system of a folder; "" if nobody says."""
    try:
        device = os.stat(folder).st_dev
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 6 and fields[2] == wanted and "-" in fields:
            return fields[fields.index("-") + 1]
    return ""


def create(path: Path) -> None:
    """Make the file if there is none: its owner's alone, whatever the umask."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


async def open_writer(path: Path, synchronous: Synchronous) -> aiosqlite.Connection:
    """Return the connection that writes; the schema is brought up to date.

    Raises:
        sqlite3.Error
        StoreInvalidError: the schema is newer than this version knows.
    """
    connection = await _connect(path, factory=WritingConnection)
    try:
        await _begin(connection, synchronous)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _begin(connection: aiosqlite.Connection, synchronous: Synchronous) -> None:
    # Before anything is written: a newer schema is refused untouched.
    _refuse_newer(await _schema(connection))
    await connection.execute("pragma journal_mode = wal")
    await connection.execute(f"pragma synchronous = {synchronous}")
    await connection.execute("begin immediate")
    try:
        version = await _schema(connection)
        _refuse_newer(version)
        for number in range(version + 1, SCHEMA + 1):
            for statement in statements(number):
                await connection.execute(statement)
            await connection.execute(f"pragma user_version = {number}")
        if not version:
            await connection.executemany(
                "insert into counts values (?, 0)", [(state.value,) for state in JobState]
            )
        await connection.execute("commit")
    except BaseException:
        await connection.execute("rollback")
        raise


async def _schema(connection: aiosqlite.Connection) -> int:
    async with connection.execute("pragma user_version") as cursor:
        row = await cursor.fetchone()
    return int(row[0]) if row is not None else 0


def _refuse_newer(version: int) -> None:
    if version > SCHEMA:
        msg = (
            f"the file has schema {version}, and this version of hodei_core knows up to {SCHEMA}: "
            "a newer one has written it"
        )
        raise StoreInvalidError(msg)


async def open_reader(path: Path) -> aiosqlite.Connection:
    """Return a connection that cannot write.

    Raises:
        sqlite3.Error
    """
    connection = await _connect(path)
    await connection.execute("pragma query_only = 1")
    return connection


async def _connect(
    path: Path, *, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> aiosqlite.Connection:
    connection = aiosqlite.connect(
        path,
        factory=factory,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        cached_statements=_CACHED_STATEMENTS,
    )
    # One that nobody closes must not keep the interpreter from ending.
    thread = getattr(connection, "_thread", None)
    if thread is not None:
        thread.daemon = True
    return await connection


def statements(number: int) -> Iterator[str]:
    """Yield the statements of a step of the schema."""
    text = resources.files(__package__).joinpath(f"schema/{number:04}.sql").read_text("utf-8")
    gathered = ""
    for line in text.splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            yield gathered
            gathered = ""


_MEANINGS: tuple[tuple[str, type[HodeiError], str], ...] = (
    ("locked", StoreBusyError, "the file stayed locked"),
    ("busy", StoreBusyError, "the file stayed locked"),
    ("full", StoreFullError, "there is no space"),
    ("not a database", StoreInvalidError, "it is no SQLite database"),
    ("malformed", StoreInvalidError, "it is damaged"),
    ("no such table", StoreInvalidError, "it is no store"),
    ("no such column", StoreInvalidError, "it is no store"),
)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise the library's errors for those of SQLite, by what their text says.

    Python tells the codes of SQLite's errors since 3.11 only.
    """
    try:
        yield
    except sqlite3.Error as error:
        text = str(error).lower()
        for part, kind, meaning in _MEANINGS:
            if part in text:
                msg = f"{path}: {meaning} ({error})"
                raise kind(msg) from error
        msg = f"{path}: {error}"
        raise StoreInvalidError(msg) from error
