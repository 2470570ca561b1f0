"""The slots of workers as a transaction takes them and gives them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SHOW = """
select slots, slots_used, idle_since, state in ('ready', 'busy'),
    ? is null or exists (select 1 from hosts where id = ?)
from workers where id = ?
"""
_WRITE = "update workers set slots_used = ?, idle_since = ? where id = ?"


class _Worker:
    __slots__ = ("changed", "idle_since", "slots", "takes_work", "used")

    def __init__(self, slots: int, used: int, idle_since: int | None, takes_work: int) -> None:
        self.slots = slots
        self.used = used
        self.idle_since = idle_since
        self.takes_work = takes_work
        self.changed = False


class Slots:
    """Reads a worker when it is first asked for, and writes it once: see `settle`.

    Good for one transaction: nobody else can write meanwhile.
    """

    def __init__(self, sql: Callable[..., Any]) -> None:
        self._sql = sql
        self._workers: dict[Any, _Worker | None] = {}
        self._hosts: dict[Any, bool] = {None: True}

    def take(self, worker_id: Any, host_id: Any) -> bool:
        """Take a slot for a host that is registered, if it is one; return whether there was one."""
        worker = self._worker(worker_id, host_id)
        if worker is None or not worker.takes_work or worker.used >= worker.slots:
            return False
        if not self._is_registered(host_id):
            return False
        worker.used += 1
        worker.changed = True
        return True

    def release(
        self, worker_id: Any, host_id: Any, ended: int | None, assigned: int | None
    ) -> None:
        """Give a slot back. The worker is idle since `ended`, or else not before `assigned`.

        `host_id`: of the host that had it, which is likely to take it again.
        """
        worker = self._worker(worker_id, host_id)
        if worker is None:
            return
        worker.used -= 1
        worker.changed = True
        if ended is not None:
            worker.idle_since = ended
        elif worker.idle_since is None or (assigned is not None and worker.idle_since < assigned):
            worker.idle_since = assigned

    def settle(self) -> None:
        """Write what has changed, and forget what was read: others are about to write."""
        for worker_id, worker in self._workers.items():
            if worker is not None and worker.changed:
                self._sql(_WRITE, (worker.used, worker.idle_since, worker_id))
        self._workers.clear()
        self._hosts = {None: True}

    def _worker(self, worker_id: Any, host_id: Any) -> _Worker | None:
        """Return a worker; what is asked at once, not to ask twice, is whether a host is there."""
        if worker_id not in self._workers:
            row = self._sql(_SHOW, (host_id, host_id, worker_id)).fetchone()
            if row is None:
                self._workers[worker_id] = None
            else:
                *shown, self._hosts[host_id] = row
                self._workers[worker_id] = _Worker(*shown)
        return self._workers[worker_id]

    def _is_registered(self, host_id: Any) -> bool:
        known = self._hosts.get(host_id)
        if known is None:
            row = self._sql("select 1 from hosts where id = ?", (host_id,)).fetchone()
            known = self._hosts[host_id] = row is not None
        return known
