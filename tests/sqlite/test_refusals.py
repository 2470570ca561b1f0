"""What is no store is refused by name, and is afterwards as it was before."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hodei_core import Hodei, StoreInvalidError
from hodei_core.backends.sqlite import files, schema
from hodei_core.backends.sqlite.mounts import file_system, is_network
from tests.sqlite.helpers import look, make, needs_root, opened, python


async def refused(path: Path) -> str:
    """Check that a file is refused and left as it was; return what the error says."""
    before = look(path.parent)
    with pytest.raises(StoreInvalidError) as raised:
        async with Hodei(path, providers=[]):
            pass
    assert look(path.parent) == before
    assert str(path) in str(raised.value)
    return str(raised.value)


def edited(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def test_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    edited(path, f"pragma user_version = {len(schema.STEPS) + 1}")
    assert "newer" in await refused(path)


async def test_a_newer_schema_in_a_log_that_nobody_wrote_back_is_refused_untouched(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    python(
        """
        import os, sqlite3, sys
        connection = sqlite3.connect(sys.argv[1])
        connection.execute("pragma user_version = 99")  # in jobs.db-wal alone
        os._exit(0)
        """,
        path,
    )
    before = look(tmp_path)
    assert before["jobs.db-wal"][0]
    with pytest.raises(StoreInvalidError, match="newer"):
        async with Hodei(path, providers=[]):
            pass
    del before["jobs.db-shm"]  # the locks of SQLite
    assert {name: look(tmp_path)[name] for name in before} == before


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


def text(path: Path) -> None:
    path.write_text("not a database\n")


def of_another_program(path: Path) -> None:
    edited(path, "create table notes (text)")


def with_another_mark(path: Path) -> None:
    edited(path, "pragma application_id = 1")


def with_another_version(path: Path) -> None:
    edited(path, "pragma user_version = 1")


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def with_two_names(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("create table a (b)")
    connection.close()
    os.link(path, path.with_name("other.db"))


def device(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("put", "says"),
    [
        (garbage, "no SQLite database"),
        (text, "no SQLite database"),
        (of_another_program, "another program"),
        (with_another_mark, "another program"),
        (with_another_version, "another program"),
        (folder, "no regular file"),
        (fifo, "no regular file"),
        (loop, "symbolic links"),
        (device, "no regular file"),
        (with_two_names, "2 names (hard links)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_what_is_no_store_is_refused_untouched(
    tmp_path: Path, put: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "jobs.db"
    put(path)
    assert says in await refused(path)


async def test_beside_somebody_elses_directory_no_file_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "prod-hosts"
    folder.mkdir()
    (folder / "inventory.yml").write_text("precious")
    with pytest.raises(StoreInvalidError, match=r"prod-hosts holds 'inventory\.yml'"):
        await make(tmp_path / "prod")
    assert [path.name for path in tmp_path.iterdir()] == ["prod-hosts"]
    assert [path.name for path in folder.iterdir()] == ["inventory.yml"]


@pytest.mark.parametrize("kept", [1, 50, 4_096, 20_000])
async def test_a_file_that_is_cut_off_is_refused_untouched(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    os.truncate(path, kept)
    says = await refused(path)
    assert "damaged" in says or "no SQLite database" in says


async def test_a_file_with_garbage_in_its_middle_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    with path.open("r+b") as file:
        file.seek(4_096 * 6)
        file.write(os.urandom(4_096 * 3))
    assert "damaged" in await refused(path)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreInvalidError, match="missing"):
        async with Hodei(tmp_path / "missing" / "jobs.db", providers=[]):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "without tables"])
async def test_an_empty_file_becomes_a_store(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "jobs.db"
    if content is None:
        edited(path, "pragma journal_mode = wal")
        assert path.stat().st_size
    else:
        path.write_bytes(content)
    await make(path)


AS_NOBODY = """
import asyncio, os, sys, tempfile
from hodei_core import Hodei

async def use(path):
    async with Hodei(path, providers=[]):
        pass

with tempfile.TemporaryDirectory() as folder:  # loads what nobody may be unable to read
    asyncio.run(use(folder + "/jobs.db"))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    asyncio.run(use(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


@needs_root
@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "says"),
    [
        (0o777, 0o600, "cannot be read and written"),
        (0o777, 0o644, "cannot be read and written"),
        (0o777, 0o622, "cannot be read and written"),
        (0o755, 0o666, "folder cannot be written"),
        (0o755, None, "folder cannot be written"),
    ],
)
async def test_without_permission_a_file_is_refused_untouched(
    folder_mode: int, file_mode: int | None, says: str
) -> None:
    with TemporaryDirectory() as name:  # nobody can enter the folders of the test runner
        folder = Path(name)
        path = folder / "jobs.db"
        if file_mode is not None:
            await make(path)
            path.chmod(file_mode)
        folder.chmod(folder_mode)
        before = look(folder)
        done = python(AS_NOBODY, path)
        assert done.stdout.startswith("StoreInvalidError"), done
        assert says in done.stdout
        assert str(path) in done.stdout
        assert look(folder) == before


OPEN = """
import asyncio, sys
from hodei_core import Hodei

async def main():
    async with Hodei(sys.argv[1], providers=[]) as hodei:
        await hodei.submit("true")

asyncio.run(main())
"""


@needs_root
def test_a_file_system_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    script = f"""
    mount -t tmpfs none {tmp_path} && touch {tmp_path}/jobs.db &&
    mount -o remount,ro {tmp_path} && exec "$@"
    """
    done = python(OPEN, tmp_path / "jobs.db", before=["unshare", "-m", "sh", "-c", script, "-"])
    assert "StoreInvalidError" in done.stderr, done
    assert "folder cannot be written" in done.stderr


# SQLite and file systems


def test_an_old_sqlite_is_refused_by_name() -> None:
    with pytest.raises(StoreInvalidError, match=r"SQLite 3\.34\.1 is too old.*3\.35\.0"):
        files.check_sqlite((3, 34, 1))
    files.check_sqlite((3, 35, 0))


MOUNTS = r"""
21 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b
22 21 0:21 / /proc rw - proc proc rw
23 21 0:22 / /tmp rw shared:1 master:2 - tmpfs tmpfs rw
24 21 0:23 /export /mnt/share rw shared:5 - nfs4 server:/export rw,vers=4.2
25 21 0:23 /export/x /srv/bound rw - nfs4 server:/export rw,vers=4.2
26 21 8:1 /data /mnt/share/inner rw - ext4 /dev/sda1 rw
27 21 0:24 / /mnt/with\040space rw - cifs //server/x rw
28 21 0:25 / /home rw - fuse.sshfs user@host:/ rw
29 21 0:26 / /media rw - fuse.ntfs-3g /dev/sdb1 rw
30 21 0:27 / /over rw - ext4 /dev/sda2 rw
31 21 0:28 / /over rw - 9p share rw
32 21 8:2 / /a\134b rw - nfs server:/ rw
not a line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/jobs.db", "overlay"),
        ("/tmp/x/jobs.db", "tmpfs"),
        ("/tmpx/jobs.db", "overlay"),
        ("/mnt/share/jobs.db", "nfs4"),
        ("/srv/bound/jobs.db", "nfs4"),
        ("/mnt/share/inner/jobs.db", "ext4"),
        ("/mnt/with space/jobs.db", "cifs"),
        ("/home/user/jobs.db", "fuse.sshfs"),
        ("/media/jobs.db", "fuse.ntfs-3g"),
        ("/over/jobs.db", "9p"),
        ("/a\\b/jobs.db", "nfs"),
    ],
)
def test_the_file_system_of_a_file_is_that_of_its_deepest_mount(path: str, kind: str) -> None:
    assert file_system(path, MOUNTS) == kind


def test_of_a_system_that_does_not_say_nothing_is_known() -> None:
    assert file_system("/jobs.db", "") == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "ceph", "fuse.sshfs", "fuse.rclone"])
def test_a_network_file_system_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    mounts = f"1 1 0:1 / / rw - {kind} x rw\n"
    with pytest.raises(StoreInvalidError, match=rf"network file system \({kind}\)"):
        files.check_mount(tmp_path / "jobs.db", str(tmp_path / "jobs.db"), mounts)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuse.ntfs-3g", "fuseblk", ""]
)
def test_a_local_file_system_is_accepted(kind: str) -> None:
    assert not is_network(kind)


@needs_root
def test_bind_mounts_overlays_and_tmpfs_are_fine(tmp_path: Path) -> None:
    for name in ("bound", "over", "lower", "upper", "work", "memory", "source"):
        (tmp_path / name).mkdir()
    script = f"""
    cd {tmp_path} && mount --bind source bound && mount -t tmpfs none memory &&
    mkdir memory/upper memory/work memory/over &&
    mount -t overlay none -o lowerdir=lower,upperdir=memory/upper,workdir=memory/work over &&
    for place in bound memory over; do
        HODEI_PLACE=$place "$@" {tmp_path}/$place/jobs.db || exit 1
    done
    """
    done = python(OPEN, before=["unshare", "-m", "sh", "-c", script, "-"])
    assert done.returncode == 0, done


# Modes


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
async def test_a_file_is_its_owners_alone_under_any_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "jobs.db"
    before = os.umask(umask)
    try:
        async with opened(path) as driver:
            await driver.add("one")
            modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    finally:
        os.umask(before)
    files = dict.fromkeys(("jobs.db", "jobs.db-wal", "jobs.db-shm"), 0o600)
    assert modes == {**files, "jobs.db-hosts": 0o700}


async def test_a_file_keeps_the_mode_that_its_owner_gave_it(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    path.chmod(0o660)
    async with opened(path) as driver:
        await driver.add("three")
        modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    files = dict.fromkeys(("jobs.db", "jobs.db-wal", "jobs.db-shm"), 0o660)
    assert modes == {**files, "jobs.db-hosts": 0o700}


async def test_a_link_to_a_file_that_is_not_there_makes_it(tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    (tmp_path / "jobs.db").symlink_to(target)
    before = os.umask(0)
    try:
        await make(tmp_path / "jobs.db")
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("*-hosts")] == ["target.db-hosts"]
    async with opened(target) as driver:
        assert await driver.total() == 2


# Locks


async def test_opening_a_store_once_more_drops_no_lock_of_this_process(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"

    def locks() -> int:
        inode = f":{path.stat().st_ino} "
        return sum(inode in line for line in Path("/proc/locks").read_text().splitlines())

    async with opened(path) as driver:
        await driver.add("one")
        held = locks()
        assert held
        async with opened(path) as second:
            await second.add("two")
        with pytest.raises(StoreInvalidError):
            async with opened(tmp_path):
                pass
        assert locks() == held
