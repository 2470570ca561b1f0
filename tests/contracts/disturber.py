"""A process that writes to a SQLite file, or locks it, all the time.

It is told on its standard input which file: one path a line.
"""

from __future__ import annotations

import os
import random
import select
import sqlite3
import sys
import time

_PAUSE_SECONDS = 0.003


def disturb(connection: sqlite3.Connection, how: str, chance: random.Random) -> None:
    """Hold the lock of a file for a moment, and write to it what no store reads."""
    connection.execute("begin immediate")
    value = str(chance.random())
    connection.execute("insert or replace into meta values ('disturbed', ?)", (value,))
    if how == "locking":
        time.sleep(chance.choice((0, 0.001, 0.005, 0.02)))
    connection.execute(chance.choice(("commit", "commit", "rollback")))
    if chance.random() < 0.1:
        connection.execute(f"pragma wal_checkpoint({chance.choice(('passive', 'truncate'))})")


def main(how: str) -> None:
    """Disturb the file that was named last."""
    chance = random.Random(1)
    connection: sqlite3.Connection | None = None
    while True:
        if select.select([0], [], [], _PAUSE_SECONDS if connection else None)[0]:
            lines = os.read(0, 65_536)
            if not lines:
                return
            if connection is not None:
                connection.close()
            path = lines.decode().split("\n")[-2]
            connection = sqlite3.connect(path, isolation_level=None, timeout=0.2)
        assert connection is not None
        try:
            disturb(connection, how, chance)
        except sqlite3.Error:  # the store is being made, or somebody else writes
            if connection.in_transaction:
                connection.execute("rollback")


if __name__ == "__main__":
    main(sys.argv[1])
