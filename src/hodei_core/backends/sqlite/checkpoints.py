"""Keeps the write-ahead log from growing while somebody always reads.

SQLite takes the log over from its beginning when all of it is in the file and nobody reads it.
Readers that overlap are one reader that never ends: two that read without a pause made it grow
by all that was written.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress

from hodei_core.backends.sqlite import pragmas

_COMMITS = 64  # between looks at its size
_WAIT_MILLISECONDS = 50  # for those who read: new ones do not need the log any more


class Checkpoints:
    """Empties the log of a connection when it is too large, after some of the commits.

    Whoever reads is waited for. If somebody reads for longer than a moment, it is tried again when
    the log has grown by half.
    """

    def __init__(self, path: str) -> None:
        self._wal = f"{path}-wal"
        self._large = pragmas.WAL_BYTES
        self._left = _COMMITS

    def committed(self, connection: sqlite3.Connection) -> None:
        """Take note of a commit; outside of a transaction. Never raises for the file's sake."""
        self._left -= 1
        if self._left:
            return
        self._left = _COMMITS
        with suppress(OSError, sqlite3.Error):
            size = os.stat(self._wal).st_size
            if size <= pragmas.WAL_BYTES:
                self._large = pragmas.WAL_BYTES
            elif size > self._large and not _emptied(connection):
                self._large = size + size // 2


def _emptied(connection: sqlite3.Connection) -> bool:
    ((waited,),) = connection.execute("pragma busy_timeout").fetchall()
    connection.execute(f"pragma busy_timeout = {_WAIT_MILLISECONDS}")
    try:
        ((busy, _, _),) = connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    finally:
        connection.execute(f"pragma busy_timeout = {waited}")
    return not busy
