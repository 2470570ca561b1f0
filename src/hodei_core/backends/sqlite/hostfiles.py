"""What a store does with the files of its hosts: takes locks, looks at others', and tidies up."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hodei_core.backends.sqlite import rows
from hodei_core.backends.sqlite.locks import HostLocks
from hodei_core.backends.sqlite.readers import Select
from hodei_core.errors import HodeiError, StoreBusyError, StoreFullError, StoreInvalidError
from hodei_core.ids import HostId
from hodei_core.ports import Change, JoinHost, Outcome, RemoveHost, RemoveWorker

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_KNOWN = (
    "select id from hosts union select id from workers "
    "union select worker from jobs where worker is not null"
)


class HostFiles:
    """The files of hosts and workers follow their rows.

    `mine`: the incarnations that joined through this store, in their order.
    """

    def __init__(self, folder: Path, select: Select) -> None:
        self._locks = HostLocks(folder)
        self._select = select
        self.mine: dict[HostId, None] = {}

    def check(self) -> None:
        """Check that their directory is ours, if there is one.

        Raises:
            StoreInvalidError: it is somebody else's.
        """
        with _refusing():
            self._locks.check_folder()

    async def open(self) -> None:
        """Make their directory, and remove what is in no row.

        Raises:
            StoreInvalidError: it cannot be made, or is somebody else's.
        """
        with _refusing():
            self._locks.create_folder()
        await self._clean()

    def close(self) -> None:
        """Show no longer that any host of this store lives."""
        self._locks.let_all_go()

    def before(self, changes: Sequence[Change]) -> None:
        """Lock the file of each host that is to join, before anybody can know of it.

        Raises:
            StoreBusyError, StoreFullError
        """
        for change in changes:
            if isinstance(change, JoinHost):
                self._take(change.record.id)
                self.mine[change.record.id] = None

    def _take(self, host_id: HostId) -> None:
        try:
            self._locks.take(host_id)
        except OSError as error:
            kind = StoreFullError if error.errno in _NO_SPACE else StoreBusyError
            msg = f"the lock of this host cannot be taken: {error}"
            raise kind(msg) from error

    async def after(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """Let go of what is in no row any more."""
        removals = False
        for change, outcome in zip(changes, outcomes, strict=True):
            # Without a beat it is a host's own: if it is refused, others have removed it before.
            if isinstance(change, RemoveHost) and (outcome.applied or change.beat is None):
                self._locks.let_go(change.host_id, remove=True)
            removals = removals or isinstance(change, (RemoveHost, RemoveWorker))
        if removals:
            await self._clean()

    async def _clean(self) -> None:
        """Remove the files of hosts and workers that are gone; what fails is done another time."""
        try:
            found = await self._select(_KNOWN, ())
        except HodeiError:
            return
        self._locks.clean({rows.plain(id_) for (id_,) in found})

    def is_dead(self, host_id: HostId) -> bool:
        """Return whether a host of another store is dead for certain."""
        return host_id not in self.mine and self._locks.is_dead(host_id)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"the directory of the hosts' files cannot be used: {error}"
        raise StoreInvalidError(msg) from error
