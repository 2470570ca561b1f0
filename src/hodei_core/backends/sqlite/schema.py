"""The schema: its steps, whose file it is, and how an older one is brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from importlib import resources

from hodei_core.errors import StoreInvalidError
from hodei_core.states import JobState

APPLICATION_ID = 0x486F6465
"""What marks a file as ours ("Hode"): SQLite's `application_id`."""


def steps() -> tuple[str, ...]:
    """Return the text of each step; the schema that step `n` leaves is number `n`."""
    names = sorted(entry.name for entry in _FOLDER.iterdir() if entry.name[:4].isdigit())
    return tuple(_FOLDER.joinpath(name).read_text("utf-8") for name in names)


_FOLDER = resources.files(__package__).joinpath("schema")
STEPS: tuple[str, ...] = steps()
VIEWS = _FOLDER.joinpath("views.sql").read_text("utf-8")
"""The views, which are made anew after the last step."""


def check(connection: sqlite3.Connection, steps: Sequence[str] = STEPS) -> int:
    """Return the number of the schema of a file; 0 if nothing is in it.

    Raises:
        sqlite3.Error
        StoreInvalidError: it is the file of another program, or its schema is newer than `steps`.
    """
    application, version, tables = connection.execute(
        "select (select application_id from pragma_application_id), "
        "(select user_version from pragma_user_version), (select count(*) from sqlite_master)"
    ).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        msg = "it is the SQLite file of another program"
        raise StoreInvalidError(msg)
    if version > len(steps):
        msg = (
            f"it has schema {version}, and this version of hodei_core knows up to {len(steps)}: "
            "a newer one has written it"
        )
        raise StoreInvalidError(msg)
    return int(version)


def migrate(connection: sqlite3.Connection, steps: Sequence[str] = STEPS) -> None:
    """Bring a file up to date, in one transaction.

    Raises:
        sqlite3.Error: nothing was changed.
        StoreInvalidError: as `check`.
    """
    if check(connection, steps) == len(steps):
        return
    connection.execute("begin immediate")
    try:
        # Another process may have done it meanwhile.
        for number in range(check(connection, steps), len(steps)):
            for statement in statements(steps[number]):
                connection.execute(statement)
        for statement in statements(VIEWS):
            connection.execute(statement)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {len(steps)}")
        connection.executemany(
            "insert or ignore into counts values (?, 0)", [(state.value,) for state in JobState]
        )
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def statements(text: str) -> Iterator[str]:
    """Yield the statements of a step."""
    gathered = ""
    for line in text.splitlines(keepends=True):
        gathered += line
        if sqlite3.complete_statement(gathered):
            yield gathered
            gathered = ""
