"""Whether a host dispatches from a store, and one of our own where none does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import anyio.abc

from hodei_core.cli.console import Console
from hodei_core.cli.stores import StoreFile
from hodei_core.errors import HodeiError
from hodei_core.hodei import Hodei
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId
from hodei_core.ports import RemoveHost, Store
from hodei_core.runtime.membership import LEASE_SECONDS

_LOOK_SECONDS = 0.5

T = TypeVar("T")
Told = Callable[[Hodei], Coroutine[Any, Any, None]]


class HostWatch:
    """Tells when no host of a store is alive: none is registered, or none keeps its lease.

    One that closes offers nothing any more, and is none. A host is dead when the store can prove
    it, and counts as dead when its beat has stood still for a lease while we looked: time in
    which this program itself was stopped does not count.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[HostId, tuple[HostRecord, float]] = {}

    async def nobody(self) -> None:
        """Return when no host is alive."""
        looked_at = anyio.current_time()
        looks = 0
        while looks < 2:  # one look may fall between the incarnations of one host
            await anyio.sleep(_LOOK_SECONDS)
            now = anyio.current_time()
            passed, looked_at = min(now - looked_at, 2 * _LOOK_SECONDS), now
            with suppress(HodeiError):  # a store that cannot be read tells nothing
                await self._look(passed)
                alive = any(age < LEASE_SECONDS for _, age in self._seen.values())
                looks = 0 if alive else looks + 1

    async def _look(self, passed: float) -> None:
        hosts = self._store.hosts
        if hosts is None:
            return
        records, dead = await hosts.select(), await hosts.dead()
        known, self._seen = self._seen, {}
        for record in (record for record in records if record.offers):
            before, age = known.get(record.id, (record, 0.0))
            age = age + passed if before.beat == record.beat else 0.0
            self._seen[record.id] = (record, LEASE_SECONDS if record.id in dead else age)

    async def unless_nobody(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Return what a call returns; None if it has not when no host is alive."""
        answers: list[T] = []
        errors: list[Exception] = []

        async def answer() -> None:
            try:
                answers.append(await call())
            except Exception as error:  # raised below, in no group
                errors.append(error)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            await self.nobody()
            tasks.cancel_scope.cancel()
        if errors:
            raise errors[0]
        return answers[0] if answers else None

    async def take_off_the_dead(self) -> None:
        """Take those hosts off the register, as another host would, unless they live after all.

        Raises:
            HodeiError: the store refuses.
        """
        await self._store.apply(
            [RemoveHost(record.id, record.beat) for record, _ in self._seen.values()]
        )


@asynccontextmanager
async def dispatched(
    file: StoreFile,
    console: Console,
    tasks: anyio.abc.TaskGroup,
    took_over: Told,
) -> AsyncIterator[Hodei]:
    """Open a store whose jobs are run: by a host that is there, else by one of our own.

    Where a host is registered this is a client, and a host of our own takes over if that one
    dies or leaves, which `took_over` is told. What our own host has begun for others is waited
    for at the end.
    """
    if not await _registered(file):
        async with Hodei(file.store()) as hodei:
            yield hodei
        return
    store = file.store()
    async with Hodei(store, providers=[]) as client:
        stand_in = _StandIn(file, console, took_over)
        tasks.start_soon(stand_in.run, HostWatch(store))
        try:
            yield client
        finally:
            await stand_in.end()


async def _registered(file: StoreFile) -> bool:
    store = file.store()
    async with Hodei(store, providers=[]):
        if store.hosts is None:
            return False
        dead = await store.hosts.dead()
        records = await store.hosts.select()
        return any(record.offers and record.id not in dead for record in records)


class _StandIn:
    """Dispatches when nobody else does, until its end."""

    def __init__(self, file: StoreFile, console: Console, took_over: Told) -> None:
        self._file = file
        self._console = console
        self._took_over = took_over
        self._done = anyio.Event()
        self._ended = anyio.Event()
        self._life = anyio.CancelScope()

    async def end(self) -> None:
        """Stop, and return when that is done; being cancelled ends what runs at once."""
        self._done.set()
        try:
            await self._ended.wait()
        finally:
            self._life.cancel()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()

    async def run(self, watch: HostWatch) -> None:
        """Watch, and dispatch from the moment when nobody else does, until it is to end."""
        try:
            with self._life:
                await self._run(watch)
        finally:
            self._ended.set()

    async def _run(self, watch: HostWatch) -> None:
        try:
            if await watch.unless_nobody(self._until_done):
                return
            await self._console.say(
                f"no host dispatches from {self._file} any more: this program does"
            )
            await watch.take_off_the_dead()
            async with Hodei(self._file.store()) as hodei, anyio.create_task_group() as tasks:
                tasks.start_soon(self._took_over, hodei)
                await self._done.wait()
                tasks.cancel_scope.cancel()
        except HodeiError as error:
            await self._console.say(str(error))

    async def _until_done(self) -> bool:
        await self._done.wait()
        return True
