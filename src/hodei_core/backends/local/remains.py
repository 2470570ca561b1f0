"""What the guards of dead hosts have left: jobs to end, and journals that tell of them."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from hodei_core.backends.local.journal import GuardAliveError, Journal, read_journal
from hodei_core.backends.local.sweep import Lost, end_jobs
from hodei_core.ids import JobId, WorkerId, file_name
from hodei_core.jobs import Attempt
from hodei_core.ports.provider import Evidence, EvidenceKind

_LOOK_SECONDS = 0.01
_PATIENCE_SECONDS = 2.0
"""How long a guard is waited for before the runtime is told, which asks again."""

_END_SECONDS = 10.0
_MARGIN_SECONDS = 3_600.0
"""Before its assignment, that a process is no older than: the clock may have been set since."""


class Remains:
    """Sees to the workers of dead hosts that kept their journals in one directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journals: dict[WorkerId, Journal | None] = {}
        self._swept: set[str] = set()
        """The dead hosts whose jobs were looked for without a journal."""

    def path(self, worker_id: WorkerId) -> Path:
        """Return where the journal of a worker is."""
        return self._folder / f"{file_name(worker_id)}.journal"

    async def end(self, worker_id: WorkerId, own: Collection[str]) -> None:
        """Return when nothing of a worker's jobs is left; `own` are ids of hosts that live.

        Raises:
            RuntimeError: its guard has not ended, or something that it left lives on.
            OSError: its journal cannot be read.
        """
        journal = await self._read(worker_id)
        if (
            journal is not None
            and not journal.ended
            and journal.of_this_boot
            and journal.host_id not in own
        ):
            await self._sweep(journal.host_id, journal.unfinished, since=journal.started)
        self._journals = {worker_id: journal}

    async def evidence(self, attempt: Attempt, job_id: JobId, own: Collection[str]) -> Evidence:
        """Return what the journal of the attempt's worker proves; `own` as in `end`.

        Raises:
            RuntimeError: its guard has not ended, or something of the job lives on.
            OSError: its journal cannot be read.
        """
        if attempt.worker_id not in self._journals:
            self._journals = {attempt.worker_id: await self._read(attempt.worker_id)}
        journal = self._journals[attempt.worker_id]
        if journal is None:  # somebody deleted it: what it told of may live
            await self._sweep_unknown(attempt, own)
            return Evidence(EvidenceKind.UNKNOWN)
        return journal.evidence(attempt, job_id)

    async def _sweep_unknown(self, attempt: Attempt, own: Collection[str]) -> None:
        """End what the dead host of an attempt started, of which nothing tells; once a host."""
        host_id = attempt.host_id
        if host_id is None or host_id in own or host_id in self._swept:
            return
        age = max((datetime.now(timezone.utc) - attempt.assigned_at).total_seconds(), 0)
        began = time.clock_gettime(time.CLOCK_BOOTTIME) - age - _MARGIN_SECONDS
        since = int(max(began, 0) * os.sysconf("SC_CLK_TCK"))
        await self._sweep(host_id, frozenset(), since=since)
        self._swept.add(host_id)

    async def _read(self, worker_id: WorkerId) -> Journal | None:
        """Return a worker's journal, once its guard has ended."""
        read = partial(read_journal, self.path(worker_id))
        with anyio.move_on_after(_PATIENCE_SECONDS):
            while True:
                try:
                    return await anyio.to_thread.run_sync(read)
                except GuardAliveError:
                    await anyio.sleep(_LOOK_SECONDS)
        msg = f"the guard of worker {worker_id} still runs, and with it what it has started"
        raise RuntimeError(msg)

    async def _sweep(self, host_id: str, job_ids: frozenset[str], *, since: int) -> None:
        lost = Lost(
            host_id=host_id,
            job_ids=job_ids,
            leaders=frozenset(),
            since=since,
            all_jobs=True,
        )
        if not await anyio.to_thread.run_sync(end_jobs, lost, _END_SECONDS):
            msg = f"jobs of the dead host {host_id} could not be ended"
            raise RuntimeError(msg)
