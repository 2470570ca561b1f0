"""The schema is brought up to date whole or not at all, and an old file loses nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hodei_core import StoreInvalidError
from hodei_core.backends.sqlite import schema
from tests.sqlite import released
from tests.sqlite.helpers import LIMIT, needs_strace, opened

ROOT = Path(__file__).parents[2]
RELEASED = sorted(released.FOLDER.glob("*.sql"))
AGAIN = "run `python -m tests.sqlite.released`, unless this schema is released"


def tables(path: Path) -> set[tuple[str, str, str]]:
    """Return what is in the schema of a file, however it is written."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("select type, name, coalesce(sql, '') from sqlite_master")
        return {(kind, name, " ".join(sql.split())) for kind, name, sql in rows}
    finally:
        connection.close()


def marks(path: Path) -> tuple[int, int]:
    connection = sqlite3.connect(path)
    try:
        (application,) = connection.execute("pragma application_id").fetchone()
        (version,) = connection.execute("pragma user_version").fetchone()
        return application, version
    finally:
        connection.close()


def test_a_file_of_each_schema_is_kept() -> None:
    names = [path.name for path in RELEASED]
    assert names == [f"{number:04}.sql" for number in range(1, len(schema.STEPS) + 1)], AGAIN


@pytest.mark.parametrize("kept", RELEASED, ids=lambda path: path.stem)
async def test_a_migrated_file_equals_a_fresh_one_and_has_lost_nothing(
    tmp_path: Path, kept: Path
) -> None:
    old, fresh = tmp_path / "old.db", tmp_path / "fresh.db"
    released.restore(kept.read_text("utf-8"), old)
    async with opened(fresh) as driver:
        await released.fill(driver)
        expected = await released.everything(driver)
    async with opened(old) as driver:
        found = await released.everything(driver)
    assert found == expected, AGAIN
    assert tables(old) == tables(fresh), AGAIN
    assert marks(old) == marks(fresh) == (schema.APPLICATION_ID, len(schema.STEPS))


STEPS = (
    *schema.STEPS,
    "create table more (a integer);\ninsert into more values (1);\n",
    "alter table more add column b text;\nupdate more set b = 'x';\n",
)


def store_file(path: Path, steps: tuple[str, ...]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    schema.migrate(connection, steps)
    return connection


def test_steps_are_made_one_after_another(tmp_path: Path) -> None:
    old = store_file(tmp_path / "old.db", STEPS[:1])
    schema.migrate(old, STEPS[:2])
    schema.migrate(old, STEPS)
    schema.migrate(old, STEPS)
    assert old.execute("select a, b from more").fetchall() == [(1, "x")]
    assert old.execute("pragma user_version").fetchone() == (3,)
    store_file(tmp_path / "fresh.db", STEPS).close()
    old.close()
    assert tables(tmp_path / "old.db") == tables(tmp_path / "fresh.db")


def test_a_step_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    connection = store_file(tmp_path / "jobs.db", STEPS[:1])
    before = tables(tmp_path / "jobs.db")
    with pytest.raises(sqlite3.OperationalError, match="nonsense"):
        schema.migrate(connection, (*STEPS[:2], "create table last (a);\nnonsense;\n"))
    assert not connection.in_transaction
    assert connection.execute("pragma user_version").fetchone() == (1,)
    assert tables(tmp_path / "jobs.db") == before
    connection.close()


def test_a_schema_that_another_process_made_newer_meanwhile_is_refused(tmp_path: Path) -> None:
    connection = store_file(tmp_path / "jobs.db", STEPS[:2])
    with pytest.raises(StoreInvalidError, match=r"schema 2.*newer"):
        schema.migrate(connection, STEPS[:1])
    assert not connection.in_transaction
    connection.close()


MIGRATE = """
import sqlite3, sys
from hodei_core.backends.sqlite import files, schema

path, *steps = sys.argv[1:]
connection = files.connect(path, sqlite3.Connection)
connection.execute("pragma journal_mode = wal")
connection.execute("pragma synchronous = full")
schema.migrate(connection, (*schema.STEPS, *steps))
connection.close()
"""


@needs_strace
# Each kills at every call of its kind, but for the writes of a fresh schema: at every seventh.
@pytest.mark.parametrize(
    ("call", "old", "stride"),
    [
        ("pwrite64", 0, 7),
        ("pwrite64", 1, 1),
        ("fdatasync", 0, 1),
        ("fdatasync", 1, 1),
        ("ftruncate", 0, 1),
        ("ftruncate", 1, 1),
        ("unlink", 0, 1),
        ("unlink", 1, 1),
    ],
)
def test_a_crash_in_a_migration_leaves_the_old_schema_or_the_new(
    tmp_path: Path, call: str, old: int, stride: int
) -> None:
    killed, code = 0, -signal.SIGKILL
    while code:
        assert code == -signal.SIGKILL
        path = tmp_path / f"{killed}.db"
        path.touch()
        if old:
            store_file(path, STEPS[:1]).close()
        inject = f"inject={call}:signal=KILL:when={killed * stride + 1}"
        strace = ["strace", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject]
        program = [sys.executable, "-c", MIGRATE, str(path), *STEPS[1:]]
        code = subprocess.run([*strace, *program], timeout=LIMIT, check=False).returncode
        version = check_whole(path, old)
        killed += code != 0
    assert killed
    assert version == len(STEPS)


def check_whole(path: Path, old: int) -> int:
    """Check that a file has one schema, whole, and can be migrated; return its number."""
    connection = sqlite3.connect(path, isolation_level=None)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    (version,) = connection.execute("pragma user_version").fetchone()
    (count,) = connection.execute("select count(*) from sqlite_master").fetchone()
    connection.close()
    assert version in (old, len(STEPS))
    assert bool(count) == bool(version)
    store_file(path, STEPS).close()
    fresh = path.with_suffix(".fresh")
    store_file(fresh, STEPS).close()
    assert tables(path) == tables(fresh)
    return int(version)


def test_the_wheel_has_the_steps(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = zipfile.ZipFile(wheel)
    names = [name for name in packed.namelist() if name.endswith(".sql")]
    texts = tuple(packed.read(name).decode() for name in sorted(names))
    assert texts == (*schema.STEPS, schema.VIEWS)
