"""A host's connection to the simulated disk, with the faults of a real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import anyio
import anyio.lowlevel

from hodei_core.clock import Clock
from hodei_core.errors import StoreBusyError, StoreInvalidError
from hodei_core.events import JobFinished
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId, JobId
from hodei_core.jobs import Job
from hodei_core.ports import (
    CancelRequest,
    Change,
    HostRegistry,
    JobQueue,
    JobRepository,
    JoinHost,
    LogStore,
    Needs,
    News,
    Outcome,
    Store,
    WorkerRegistry,
)
from hodei_core.states import JobState
from hodei_core.workers import Worker
from tests.simulation.disk import Disk, at_once
from tests.simulation.faults import Faults, HostCrashed
from tests.simulation.shadow import ShadowReaders

_OPEN = (JobState.ASSIGNED, JobState.RUNNING)


class Power:
    """Whether a host is alive, stopped or dead."""

    def __init__(self) -> None:
        self.dead = False
        self._running = anyio.Event()
        self._running.set()

    @property
    def on(self) -> bool:
        """Whether it is not stopped."""
        return self._running.is_set()

    def crash(self) -> None:
        self.dead = True
        self._running.set()

    def pause(self) -> None:
        if self._running.is_set():
            self._running = anyio.Event()

    def go_on(self) -> None:
        self._running.set()

    async def check(self) -> None:
        """Wait while the host is stopped.

        Raises:
            HostCrashed: it is dead.
        """
        while not self._running.is_set():
            await self._running.wait()
        if self.dead:
            raise HostCrashed


class HostClock(Clock):
    """The clock as a host has it: while it is stopped nothing of it runs."""

    def __init__(self, clock: Clock, power: Power) -> None:
        self._clock = clock
        self._power = power
        self.now = clock.now  # type: ignore[method-assign]
        self.monotonic = clock.monotonic  # type: ignore[method-assign]

    def now(self) -> Any:  # pragma: no cover - replaced
        raise NotImplementedError

    def monotonic(self) -> float:  # pragma: no cover - replaced
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        while not self._power._running.is_set():
            await self._power._running.wait()


class SimulatedStore(Store):
    """What one host sees of the disk."""

    durable = True

    def __init__(
        self, disk: Disk, power: Power, faults: Faults, crash: Callable[[], None], clock: Clock
    ) -> None:
        self._disk = disk
        self._power = power
        self._faults = faults
        self._crash = crash
        self._clock = clock
        self.mine: dict[HostId, None] = {}
        """The incarnations of the host that this connection is of."""

        self.heard = 0
        """How much of the disk's news was told here."""

        self.gone = False
        """Whether the file is not there for this host any more."""

        self._hosts = _Hosts(self)
        self.shadow = (
            None
            if disk.shadow is None
            else ShadowReaders(disk.shadow, clock, lambda: list(self.mine), self)
        )
        disk.readers[self] = anyio.Event()

    @property
    def queue(self) -> JobQueue:
        return _Queue(self)  # type: ignore[return-value]

    @property
    def jobs(self) -> JobRepository:
        return _Reader(self, "jobs", self._disk.model.jobs)  # type: ignore[return-value]

    @property
    def workers(self) -> WorkerRegistry:
        return _Reader(self, "workers", self._disk.model.workers)  # type: ignore[return-value]

    @property
    def logs(self) -> LogStore:
        return _Reader(self, "logs", self._disk.model.logs)  # type: ignore[return-value]

    @property
    def hosts(self) -> HostRegistry:
        return self._hosts

    async def open(self, host_id: HostId) -> None:
        await self.turn()
        self.heard = len(self._disk.news)
        if self.shadow is not None:
            await self.shadow.begin()

    async def close(self) -> None:
        return None

    async def late(self, name: str) -> None:
        """Take a while to answer what was asked: it may not be so any more."""
        del name  # for tests that hold back one answer
        if self._faults.strike("store late", 0.03):
            await anyio.sleep(self._faults.chance.choice((0.01, 0.3, 2.0, 12.0)))
            await self._power.check()

    async def turn(self) -> None:
        """Let others have their turn, and fail now and then."""
        if self.gone:
            await anyio.lowlevel.checkpoint()
            await self._power.check()
            msg = "the file is gone"
            raise StoreInvalidError(msg, gone=True)
        if self._faults.strike("store slow", 0.05):
            await anyio.sleep(self._faults.chance.choice((0.01, 0.3, 2.0)))
        elif self._faults.chance.random() < 0.3:
            await anyio.lowlevel.checkpoint()
        await self._power.check()
        if self._faults.strike("store busy", 0.03):
            msg = "somebody else holds it"
            raise StoreBusyError(msg)

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        await self.turn()
        if self._faults.strike("host crash", 0.002):
            self._crash()
            raise HostCrashed
        for change in changes:
            if isinstance(change, JoinHost):
                self.mine[change.record.id] = None
        outcomes = self._disk.commit(changes, self)
        if self._faults.strike("host crash", 0.002):
            self._crash()
            raise HostCrashed
        if self._faults.strike("store unsure", 0.02):
            msg = "nobody knows whether it was stored"
            raise StoreBusyError(msg)
        await self.late("apply")
        return outcomes

    async def until_others_wrote(self) -> None:
        """Return when others wrote, which is noticed a while later."""
        await self._disk.readers[self].wait()
        await self._clock.sleep(0.25)
        await self.turn()
        self._disk.readers[self] = anyio.Event()

    async def check(
        self, side: str, name: str, shown: object, *arguments: object, **more: object
    ) -> None:
        """Have the shadow show the same, if there is one."""
        if self.shadow is not None:
            await self.shadow.check(side, name, shown, *arguments, **more)

    @property
    def disk(self) -> Disk:
        return self._disk

    @property
    def clock(self) -> Clock:
        return self._clock


class _Reader:
    """A reading side, each call of which takes a turn."""

    def __init__(self, store: SimulatedStore, side: str, reader: object) -> None:
        self._store = store
        self._side = side
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._reader, name)

        async def call(*arguments: object, **keywords: object) -> object:
            await self._store.turn()
            shown = await method(*arguments, **keywords)
            await self._store.check(self._side, name, shown, *arguments, **keywords)
            await self._store.late(name)
            return shown

        return call


class _Queue(_Reader):
    """The queue as a host may see it: what others cover is theirs."""

    def __init__(self, store: SimulatedStore) -> None:
        super().__init__(store, "queue", store.disk.model.queue)

    async def peek(self, needs: Needs, limit: int) -> list[Job]:
        await self._store.turn()
        disk = self._store.disk
        jobs = at_once(disk.model.queue.peek(needs, 1 << 30))
        shown = [job for job in jobs if not self._is_others(job.id)][:limit]
        await self._store.check("queue", "peek", shown, needs, limit)
        await self._store.late("peek")
        return shown

    async def expiring(self, after: tuple[datetime, int] | None, limit: int) -> list[Job]:
        await self._store.turn()
        found = [
            (job.expires_at, job.seq, job)
            for job in self._store.disk.jobs.values()
            if job.expires_at is not None
        ]
        found.sort(key=lambda entry: entry[:2])
        shown = [job for *key, job in found if after is None or tuple(key) > after][:limit]
        await self._store.check("queue", "expiring", shown, after, limit)
        await self._store.late("expiring")
        return shown

    def _is_others(self, job_id: JobId) -> bool:
        disk = self._store.disk
        owner, until = disk.covers.get(job_id, (None, None))
        mine = self._store.mine
        return (
            owner is not None
            and until is not None
            and owner in disk.hosts
            and owner not in mine
            and until > self._store.clock.now()
        )


class _Hosts(HostRegistry):
    def __init__(self, store: SimulatedStore) -> None:
        self._store = store

    async def select(self) -> list[HostRecord]:
        await self._store.turn()
        shown = list(self._store.disk.hosts.values())
        await self._store.check("hosts", "select", shown)
        await self._store.late("hosts")
        return shown

    async def others_wrote(self) -> None:
        await self._store.until_others_wrote()

    async def news(self, *, everything: bool) -> News:
        await self._store.turn()
        told = self._store.disk.news[self._store.heard :]
        self._store.heard += len(told)
        events = [
            event
            for by, event, _ in told
            if event is not None
            if everything or (by is not self._store and isinstance(event, JobFinished))
        ]
        of_stored = tuple(event for event in events if event.job_id in self._store.disk.jobs)
        shown = News(
            events=of_stored,
            missed=len(events) - len(of_stored),
            needs=tuple(
                dict.fromkeys(
                    needs for by, _, needs in told if by is not self._store and needs is not None
                )
            ),
        )
        await self._store.check("hosts", "news", shown, everything=everything)
        await self._store.late("news")
        return shown

    async def abandoned_workers(self) -> list[Worker]:
        await self._store.turn()
        disk = self._store.disk
        rows = at_once(disk.model.workers.select())
        shown = [row for row in rows if row.host_id not in disk.hosts]
        await self._store.check("hosts", "abandoned_workers", shown)
        await self._store.late("abandoned_workers")
        return shown

    async def abandoned_jobs(self) -> list[Job]:
        await self._store.turn()
        disk = self._store.disk
        shown = [
            job
            for job in disk.jobs.values()
            if job.state in _OPEN and job.attempt.host_id not in disk.hosts
        ]
        await self._store.check("hosts", "abandoned_jobs", shown)
        await self._store.late("abandoned_jobs")
        return shown

    async def cancel_requests(self, host_id: HostId) -> list[tuple[JobId, CancelRequest]]:
        await self._store.turn()
        disk = self._store.disk
        found = []
        for job_id, request in disk.cancels.items():
            job = disk.jobs[job_id]
            if job.state is JobState.PENDING or (
                job.state in _OPEN and job.attempt.host_id == host_id
            ):
                found.append((job_id, request))
        found.sort(key=lambda entry: disk.jobs[entry[0]].seq)
        await self._store.check("hosts", "cancel_requests", found, host_id)
        await self._store.late("cancel_requests")
        return found
