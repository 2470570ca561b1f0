"""What SQLite's errors mean to the library."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hodei_core.errors import HodeiError, StoreBusyError, StoreFullError, StoreInvalidError

# The lowest byte of https://www.sqlite.org/rescode.html
_BUSY, _LOCKED, _READONLY, _IO, _CORRUPT, _FULL, _CANNOT_OPEN, _PROTOCOL, _NO_DATABASE = (
    5, 6, 8, 10, 11, 13, 14, 15, 26,
)  # fmt: skip

_MEANINGS: dict[int, tuple[type[HodeiError], str]] = {
    _BUSY: (StoreBusyError, "the file stayed locked"),
    _LOCKED: (StoreBusyError, "the file stayed locked"),
    _PROTOCOL: (StoreBusyError, "the file stayed locked"),
    _READONLY: (StoreInvalidError, "it cannot be written"),
    _IO: (StoreInvalidError, "reading or writing it failed"),
    _CORRUPT: (StoreInvalidError, "it is damaged"),
    _FULL: (StoreFullError, "there is no space"),
    _CANNOT_OPEN: (StoreInvalidError, "it cannot be opened"),
    _NO_DATABASE: (StoreInvalidError, "it is no SQLite database"),
}

# Python tells the codes since 3.11 only.
_TEXTS: tuple[tuple[str, int], ...] = (
    ("locking protocol", _PROTOCOL),
    ("locked", _BUSY),
    ("readonly", _READONLY),
    ("disk i/o error", _IO),
    ("malformed", _CORRUPT),
    ("is full", _FULL),
    ("unable to open", _CANNOT_OPEN),
    ("not a database", _NO_DATABASE),
)


def code_of(error: sqlite3.Error) -> int:
    """Return the primary code of an error of SQLite; 0 if it is none of those that matter."""
    extended = getattr(error, "sqlite_errorcode", None)
    if extended is not None:
        return int(extended) & 0xFF
    text = str(error).lower()
    return next((code for part, code in _TEXTS if part in text), 0)


def is_busy(error: BaseException | None) -> bool:
    """Return whether an error says that the file is locked, so that waiting may help."""
    return isinstance(error, sqlite3.Error) and code_of(error) in (_BUSY, _LOCKED, _PROTOCOL)


def is_full(error: BaseException | None) -> bool:
    """Return whether an error says that there is no space."""
    return isinstance(error, sqlite3.Error) and code_of(error) == _FULL


def concerns_all(error: BaseException | None) -> bool:
    """Return whether an error is the file's, and not that of a single change."""
    return isinstance(error, (HodeiError, sqlite3.OperationalError)) or (
        isinstance(error, sqlite3.Error) and code_of(error) in _MEANINGS
    )


def meaning(path: Path, error: sqlite3.Error) -> HodeiError:
    """Return the library's error for one of SQLite about this file."""
    code = code_of(error)
    if code == _IO and not _has_space(path):  # an index in shared memory could not grow
        code = _FULL
    kind, words = _MEANINGS.get(code, (StoreInvalidError, "it cannot be used"))
    return kind(f"{path}: {words} ({error})")


def _has_space(path: Path) -> bool:
    try:
        return os.statvfs(path.parent).f_bavail > 0
    except OSError:
        return True


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise the library's errors for those of SQLite, and name the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise meaning(path, error) from error
