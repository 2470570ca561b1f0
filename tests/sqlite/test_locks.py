"""The files of hosts: a lock on one of them tells that its host lives."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from hodei_core.backends.sqlite import SqliteStore
from hodei_core.backends.sqlite.locks import HostLocks
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, IdSource, WorkerId, file_name
from hodei_core.ports import JoinHost, PutWorker, RemoveHost, RemoveWorker
from hodei_core.testing.contracts.samples import worker
from tests.local.helpers import REPOSITORY, script_environment

A, B = HostId("a"), HostId("b")

HOLD = """
import os, sys
from pathlib import Path
from hodei_core.backends.sqlite.locks import HostLocks
locks = HostLocks(Path(sys.argv[1]))
locks.create_folder()
locks.take(sys.argv[2])
pid = os.fork() if "fork" in sys.argv else None
if pid != 0:  # the fork says nothing, and lives on
    print("held", pid or os.getpid(), flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, host_id: str, *more: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Have another process hold the lock of a host; yield it, and the number of its fork."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), host_id, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=script_environment(),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            yield process, int(line[1])
        finally:
            process.kill()


@pytest.fixture
def locks(tmp_path: Path) -> HostLocks:
    made = HostLocks(tmp_path / "hosts")
    made.create_folder()
    return made


def test_a_host_of_another_process_lives_until_that_is_killed(
    locks: HostLocks, tmp_path: Path
) -> None:
    with holder(tmp_path / "hosts", A) as (process, _):
        assert not locks.is_dead(A)
        process.kill()
        process.wait()
        assert locks.is_dead(A)


def test_a_fork_that_lives_on_does_not_keep_its_host_alive(
    locks: HostLocks, tmp_path: Path
) -> None:
    with holder(tmp_path / "hosts", A, "fork") as (process, fork):
        assert not locks.is_dead(A)
        process.kill()
        process.wait()
        try:
            assert locks.is_dead(A)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_nobody_is_dead_whose_file_is_missing(locks: HostLocks) -> None:
    assert not locks.is_dead(A)


def test_looking_at_a_host_of_the_same_process_does_not_end_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "hosts"
    one, other = HostLocks(folder), HostLocks(folder)
    one.create_folder()
    one.take(A)
    assert not other.is_dead(A)
    other.take(A)
    other.clean([])
    assert (folder / "a.host").exists()
    script = "import sys; from tests.sqlite.test_locks import *; "
    script += "print(HostLocks(Path(sys.argv[1])).is_dead(A))"
    command = [sys.executable, "-c", script, str(folder)]
    shown = subprocess.run(
        command, cwd=REPOSITORY, env=script_environment(), check=True, capture_output=True
    )
    assert shown.stdout == b"False\n"
    one.let_go(A, remove=True)
    assert not (folder / "a.host").exists()


def test_a_host_that_let_go_without_leaving_is_dead_at_once(tmp_path: Path) -> None:
    locks = HostLocks(tmp_path)
    locks.take(A)
    locks.let_all_go()
    assert locks.is_dead(A)


def test_files_are_removed_unless_they_are_known_or_locked(
    locks: HostLocks, tmp_path: Path
) -> None:
    folder = tmp_path / "hosts"
    for name in ("known.host", "gone.host", "gone.journal", "locked.journal"):
        (folder / name).touch()
    with (folder / "locked.journal").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        locks.clean(["known"])
        assert sorted(os.listdir(folder)) == ["known.host", "locked.journal"]


def test_the_directory_and_its_files_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        locks = HostLocks(tmp_path / "hosts")
        locks.create_folder()
        locks.take(A)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "hosts").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "hosts" / "a.host").stat().st_mode) == 0o600
    locks.let_all_go()


@pytest.mark.parametrize("name", ["inventory.yml", "README", "a.host.bak"])
def test_a_directory_of_somebody_else_is_left_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "prod-hosts"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / name).write_text("precious")
    locks = HostLocks(folder)
    with pytest.raises(FileExistsError, match="somebody else's"):
        locks.create_folder()
    locks.clean([])
    assert (folder / name).read_text() == "precious"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_what_a_provider_keeps_there_goes_with_its_host_or_worker(
    locks: HostLocks, tmp_path: Path
) -> None:
    ids = IdSource(os.urandom)
    host_id, worker_id = ids.host_id(), ids.worker_id("a.b c")
    for each in (host_id, worker_id):
        (tmp_path / "hosts" / f"{file_name(each)}.some.machines").touch()
    locks.create_folder()
    locks.clean([worker_id])
    assert os.listdir(tmp_path / "hosts") == [f"{file_name(worker_id)}.some.machines"]


def test_what_a_system_hides_in_the_directory_is_left_alone(
    locks: HostLocks, tmp_path: Path
) -> None:
    (tmp_path / "hosts" / ".DS_Store").touch()
    locks.create_folder()
    locks.clean([])
    assert os.listdir(tmp_path / "hosts") == [".DS_Store"]


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_is_no_directory_is_left_alone(what: str, tmp_path: Path) -> None:
    folder, other = tmp_path / "jobs.db-hosts", tmp_path / "home"
    other.mkdir(mode=0o755)
    other.chmod(0o755)
    if what == "link":
        folder.symlink_to(other)
    else:
        folder.touch(mode=0o644)
        folder.chmod(0o644)
    mode = folder.stat().st_mode
    with pytest.raises(NotADirectoryError):
        HostLocks(folder).create_folder()
    assert folder.stat().st_mode == mode


def test_a_directory_that_was_deleted_is_made_again(locks: HostLocks, tmp_path: Path) -> None:
    (tmp_path / "hosts").rmdir()
    locks.take(A)
    assert (tmp_path / "hosts" / "a.host").exists()
    locks.let_all_go()


@pytest.mark.parametrize("name", ["plain-0123", "a/b-0123", "..", "Ünï-01", "x" * 400, "\udcff"])
def test_every_id_has_a_file_name_of_its_own(name: str, tmp_path: Path) -> None:
    made = file_name(name)
    assert "/" not in made
    assert (tmp_path / f"{made}.journal").parent == tmp_path
    (tmp_path / f"{made}.journal").touch()
    assert made != file_name(name + "x")


async def _joined(store: SqliteStore, host_id: HostId) -> None:
    await store.open(host_id)
    await store.apply([JoinHost(HostRecord(id=host_id))])


@pytest.mark.anyio
async def test_a_store_tells_of_the_death_of_a_host_of_another_process(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await _joined(store, A)
    try:
        assert store.directory == tmp_path / "jobs.db-hosts"
        with holder(store.directory, B) as (process, _):
            with sqlite3.connect(store.path) as connection:
                connection.execute("insert into hosts (id, beat, offers) values ('b', 0, '[]')")
            connection.close()
            told: list[list[HostId]] = []

            heard = anyio.Event()

            async def watch() -> None:
                told.append(await store.hosts.deaths())
                heard.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                await anyio.wait_all_tasks_blocked()
                assert not told
                process.kill()
                with anyio.fail_after(1):
                    await heard.wait()
            assert told == [[B]]
    finally:
        await store.close()


@pytest.mark.anyio
async def test_a_host_that_leaves_takes_its_file_along(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await _joined(store, A)
    folder = store.directory
    assert folder is not None
    assert os.listdir(folder) == ["a.host"]
    await store.apply([RemoveHost(A)])
    assert os.listdir(folder) == []
    await store.close()
    assert store.directory is None


@pytest.mark.anyio
async def test_the_files_of_a_worker_go_with_its_row(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "jobs.db")
    await _joined(store, A)
    assert store.directory is not None
    journal = store.directory / "p%2F1.journal"
    try:
        row = worker("p/1")
        await store.apply([PutWorker(row)])
        journal.touch()
        await store.apply([RemoveWorker(WorkerId("other"))])
        assert journal.exists()
        await store.apply([RemoveWorker(WorkerId("p/1"))])
        assert not journal.exists()
    finally:
        await store.close()
