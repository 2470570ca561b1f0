"""The file of a store: what it may be, how it is opened, and whether it still is the same.

No descriptor of the file is ever opened but by SQLite: closing one drops every lock that the
process holds on the file, those of other connections too (fcntl(2)).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

from hodei_core.backends.sqlite import faults, schema
from hodei_core.backends.sqlite.mounts import file_system, is_network
from hodei_core.errors import StoreInvalidError

Synchronous = Literal["FULL", "NORMAL"]

BUSY_SECONDS = 5.0
"""How long a call waits for a file that somebody else has locked."""

OLDEST_SQLITE = (3, 35, 0)
"""The first that has `returning`."""

_CACHED_STATEMENTS = 256
_CHECKED_BYTES = 4 * 1024 * 1024  # a file up to this size is looked through: some 10 ms
_LEAST_BYTES = 512  # the smallest page; SQLite takes a file of one byte for an empty one
_LOOKS = 3  # at a file that somebody else may be writing
_LOOK_AGAIN_SECONDS = 0.05

C = TypeVar("C", bound=sqlite3.Connection)


class Place:
    """A file and what SQLite keeps beside it, by what the kernel calls them."""

    def __init__(self, path: Path, real: str) -> None:
        self._path = path
        self._parts = (real, real + "-wal", real + "-shm")
        self._known = self._identities()

    def _identities(self) -> list[tuple[int, int]]:
        found = map(os.stat, self._parts)
        return [(status.st_dev, status.st_ino) for status in found]

    def is_lost(self) -> bool:
        """Return whether the file is no longer what its name says."""
        try:
            return self._identities() != self._known
        except OSError:
            return True

    def check(self) -> None:
        """Refuse to go on with a file that nobody else would find.

        Raises:
            StoreInvalidError: it was deleted or replaced; `gone` is set.
        """
        if self.is_lost():
            msg = f"{self._path} was deleted or replaced while it was open"
            raise StoreInvalidError(msg, gone=True)


def check_sqlite(version: tuple[int, ...]) -> None:
    """Check that SQLite is new enough.

    Raises:
        StoreInvalidError
    """
    if version < OLDEST_SQLITE:
        found, needed = (".".join(map(str, each)) for each in (version, OLDEST_SQLITE))
        msg = f"SQLite {found} is too old for a store: {needed} is needed"
        raise StoreInvalidError(msg)


def check_mount(path: Path, real: str, mountinfo: str) -> None:
    """Check that a file lies where locks hold.

    Raises:
        StoreInvalidError
    """
    kind = file_system(real, mountinfo)
    if is_network(kind):
        msg = f"{path} lies on a network file system ({kind}), where locks do not hold"
        raise StoreInvalidError(msg)


def check(path: Path, real: str) -> None:
    """Check that a file may be a store, or may be made, without touching it.

    Raises:
        StoreInvalidError: it may not; the error says why.
        StoreBusyError: it stayed locked.
    """
    check_sqlite(sqlite3.sqlite_version_info)
    check_mount(path, real, _mountinfo())
    with _refusing(path):
        size = _check_kind(path, real)
    with faults.translated(path):
        for _ in range(_LOOKS - 1):
            try:
                _check_content(path, real, size)
            except sqlite3.DatabaseError:  # others may be writing; a damaged one stays so
                time.sleep(_LOOK_AGAIN_SECONDS)
            else:
                return
        _check_content(path, real, size)


def _check_kind(path: Path, real: str) -> int:
    """Return the size of the file in bytes; 0 if there is none."""
    folder = os.path.dirname(real)
    os.stat(folder)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        msg = f"{path}: its folder cannot be written"
        raise StoreInvalidError(msg)
    try:
        status = os.stat(real)
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(status.st_mode):
        msg = f"{path} is no regular file"
        raise StoreInvalidError(msg)
    if status.st_nlink > 1:  # SQLite keeps its log beside one of them, and the others miss that
        msg = (
            f"{path} has {status.st_nlink} names (hard links), where a store must have one: "
            "delete the others, and make copies with 'vacuum into'"
        )
        raise StoreInvalidError(msg)
    if not os.access(real, os.R_OK | os.W_OK):
        msg = f"{path} cannot be read and written"
        raise StoreInvalidError(msg)
    if 0 < status.st_size < _LEAST_BYTES:
        msg = f"{path}: it is no SQLite database"
        raise StoreInvalidError(msg)
    return status.st_size


def _mountinfo() -> str:
    try:
        with open("/proc/self/mountinfo", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"{path} cannot be used: {error.strerror}"
        raise StoreInvalidError(msg) from error


def _check_content(path: Path, real: str, size: int) -> None:
    if not size:
        return
    connection = _connect(real, _mode_to_look(real), sqlite3.Connection)
    try:
        schema.check(connection)
        if size <= _CHECKED_BYTES:
            for (verdict,) in connection.execute("pragma quick_check(1)"):
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict}")
    except StoreInvalidError as error:
        msg = f"{path}: {error}"
        raise StoreInvalidError(msg) from None
    finally:
        connection.close()


def _mode_to_look(real: str) -> str:
    """Return how a file is opened to look at it."""
    if _size(real + "-journal"):
        return "mode=rw"  # so that what somebody wrote who was killed meanwhile is undone first
    if _size(real + "-wal"):
        return "mode=ro"
    # Alone, SQLite may be told that the file never changes: it then makes no other beside it.
    return "mode=ro&immutable=1"


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size
    except OSError:
        return 0


def create(path: Path, real: str) -> None:
    """Make the file if there is none: its owner's alone, whatever the umask.

    One that is there keeps the mode that its owner gave it.

    Raises:
        StoreInvalidError: it cannot be made.
    """
    with _refusing(path):
        try:
            descriptor = os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def connect(real: str, kind: type[C]) -> C:
    """Return a connection that reads and writes a file that is there.

    Raises:
        sqlite3.Error
    """
    return _connect(real, "mode=rw", kind)


def _connect(real: str, how: str, kind: type[C]) -> C:
    # Closed by whichever thread drops the last reference to one that was never closed.
    return sqlite3.connect(
        f"file:{quote(os.fsencode(real))}?{how}",
        uri=True,
        factory=kind,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        cached_statements=_CACHED_STATEMENTS,
        check_same_thread=False,
    )
