"""The files of the hosts of a store: a kernel's lock on one of them tells that its host lives.

A lock, and never a process id: hosts in several pid namespaces may share a store. And a record
lock (POSIX), since a child that a host has forked does not get it.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Collection
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from hodei_core.ids import HostId, file_name

fcntl: Any = None
with suppress(ImportError):  # where there is none, leases alone tell who lives
    fcntl = import_module("fcntl")

_MODE = 0o600
_FOLDER_MODE = 0o700
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SUFFIX = ".host"
_OURS = (_SUFFIX, ".journal", ".journal.new")
"""How the names of files end that hosts make, and the guards of their jobs."""

_OF_PROVIDERS = re.compile(r"([0-9a-f]{32}|[0-9a-f]{64}|.+-[0-9a-f]{12})\..+")
"""The names of files that a provider keeps: after a host or a worker, with any suffix."""


class _Held:
    """The locked files of this very process, by device and inode.

    A record lock never stands in the way of the process that holds it, and goes when that
    process closes any descriptor of the file. So what is held is opened nowhere else, and
    nobody looks at a file while somebody takes it.
    """

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.files: dict[tuple[int, int], int] = {}
        """The descriptor of each."""

    def forget(self) -> None:
        """Hold nothing in a child that was forked: its parent holds the locks."""
        self.mutex = threading.Lock()
        self.files = {}


_held = _Held()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.forget)


class HostLocks:
    """The lock files of a store's hosts, in a directory of their owner's alone.

    Nothing here waits for a lock.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: dict[HostId, tuple[int, int]] = {}

    def check_folder(self) -> None:
        """Check that the directory is ours, if there is one.

        Raises:
            OSError: it is no directory, or holds what is not ours.
        """
        # One that is another user's refuses what is made in it; its file says more of that.
        with suppress(FileNotFoundError, PermissionError):
            if not stat.S_ISDIR(self._folder.lstat().st_mode):
                raise NotADirectoryError(f"{self._folder} is no directory")
            for entry in self._folder.iterdir():
                if _stem(entry.name) is None and not entry.name.startswith("."):
                    msg = f"{self._folder} holds {entry.name!r}, so that it is somebody else's"
                    raise FileExistsError(msg)

    def create_folder(self) -> None:
        """Make the directory if there is none.

        Raises:
            OSError: it cannot be made, or is not ours.
        """
        with suppress(FileExistsError):
            self._folder.mkdir(_FOLDER_MODE)
        self.check_folder()
        if stat.S_IMODE(self._folder.stat().st_mode) != _FOLDER_MODE:
            self._folder.chmod(_FOLDER_MODE)  # the umask has narrowed it, or somebody widened it

    def take(self, host_id: HostId) -> None:
        """Show that a host of this process lives, until it is let go or the process ends.

        Raises:
            OSError: out of descriptors or space.
        """
        if fcntl is None or host_id in self._own:
            return
        with _held.mutex:
            try:
                key = _lock(self._path(host_id))
            except FileNotFoundError:  # somebody has deleted the directory
                self.create_folder()
                key = _lock(self._path(host_id))
        if key is not None:
            self._own[host_id] = key

    def let_go(self, host_id: HostId, *, remove: bool) -> None:
        """Show no longer that a host lives; `remove`: it left, and nobody need look for it."""
        key = self._own.pop(host_id, None)
        if key is None:
            return
        with _held.mutex:
            fd = _held.files.pop(key, None)
            if remove:
                with suppress(OSError):
                    self._path(host_id).unlink()
            if fd is not None:
                os.close(fd)

    def let_all_go(self) -> None:
        """Show no longer that any host of this store lives."""
        for host_id in list(self._own):
            self.let_go(host_id, remove=False)

    def is_dead(self, host_id: HostId) -> bool:
        """Return whether a host that took its lock is dead for certain."""
        if fcntl is None:
            return False
        with _held.mutex:
            return _is_free(self._path(host_id))

    def clean(self, known: Collection[str]) -> None:
        """Remove the files of hosts and workers that are not known, unless they are locked."""
        if fcntl is None:
            return
        names = {file_name(of) for of in known}
        for entry in _files(self._folder):
            stem = _stem(entry.name)
            if stem is not None and stem not in names:
                with suppress(OSError), _held.mutex:
                    _remove_unlocked(entry)

    def _path(self, host_id: HostId) -> Path:
        return self._folder / (file_name(host_id) + _SUFFIX)


def _stem(name: str) -> str | None:
    """Return the name, without its suffix, of a file that may be ours; None if it cannot be."""
    for end in _OURS:
        if name.endswith(end):
            return name[: -len(end)]
    match = _OF_PROVIDERS.fullmatch(name)
    return None if match is None else match[1]


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _lock(path: Path) -> tuple[int, int] | None:
    """Lock a file, made if there is none; None if another store of this process has it."""
    while True:
        if _is_held(path):
            return None
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            status = os.fstat(fd)
            if _try_lock(fd) and _is_at(path, status):
                os.fchmod(fd, _MODE)
                os.truncate(fd, 0)
                os.write(fd, _boot_id())
                key = (status.st_dev, status.st_ino)
                _held.files[key] = fd
                fd = -1
                return key
            # Somebody takes it for a file that nobody needs, and removes it.
            with suppress(FileNotFoundError):
                path.unlink()
        finally:
            if fd >= 0:
                os.close(fd)


def _is_free(path: Path) -> bool:
    if _is_held(path):
        return False
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _try_lock(fd) and _is_at(path, os.fstat(fd))
    finally:
        os.close(fd)


def _remove_unlocked(path: Path) -> None:
    if _is_held(path):
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as the guards lock theirs
        if _try_lock(fd) and _is_at(path, os.fstat(fd)):
            path.unlink()
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_held(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in _held.files


def _is_at(path: Path, status: os.stat_result) -> bool:
    """Return whether a file that is open still is the one at a path."""
    try:
        there = path.stat()
    except OSError:
        return False
    return os.path.samestat(there, status)


def _boot_id() -> bytes:
    try:
        return _BOOT_ID.read_bytes()
    except OSError:
        return b"unknown\n"
