"""Whether a host dispatches from a store, and one of our own where none does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import anyio
import anyio.abc

from hodei_core.cli.console import Console
from hodei_core.cli.stores import StoreFile
from hodei_core.errors import HodeiError
from hodei_core.hodei import Hodei
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId
from hodei_core.ports import HostRegistry
from hodei_core.runtime.membership import LEASE_SECONDS

_LOOK_SECONDS = 0.5

T = TypeVar("T")


async def nobody_dispatches(hosts: HostRegistry) -> None:
    """Return when no host of a store is alive: none is registered, or their leases ended.

    A host counts as dead when its beat has stood still for a lease while we looked: time in
    which this program itself was stopped does not count.
    """
    seen: dict[HostId, tuple[int, float]] = {}
    looked_at = anyio.current_time()
    none = 0
    while True:
        now = anyio.current_time()
        passed, looked_at = min(now - looked_at, 2 * _LOOK_SECONDS), now
        with suppress(HodeiError):  # a store that cannot be read tells nothing
            records = await hosts.select()
            seen = {record.id: _aged(record, seen.get(record.id), passed) for record in records}
            none = 0 if any(age < LEASE_SECONDS for _, age in seen.values()) else none + 1
        if none > 1:  # one look may fall between the incarnations of one host
            return
        await anyio.sleep(_LOOK_SECONDS)


def _aged(record: HostRecord, known: tuple[int, float] | None, passed: float) -> tuple[int, float]:
    """Return a host's beat, and for how long it has stood still."""
    if known is None or known[0] != record.beat:
        return record.beat, 0.0
    return record.beat, known[1] + passed


async def unless_nobody_dispatches(
    hosts: HostRegistry, call: Callable[[], Awaitable[T]]
) -> T | None:
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
        await nobody_dispatches(hosts)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    return answers[0] if answers else None


@asynccontextmanager
async def dispatched(
    file: StoreFile, console: Console, tasks: anyio.abc.TaskGroup
) -> AsyncIterator[Hodei]:
    """Open a store whose jobs are run: by a host that is there, else by one of our own.

    Where a host is registered this is a client, and a host of our own takes over if that one
    dies or leaves. What our own host has begun for others is waited for at the end.
    """
    if not await _registered(file):
        async with Hodei(file.store()) as hodei:
            yield hodei
        return
    store = file.store()
    async with Hodei(store, providers=[]) as client:
        stand_in = _StandIn(file, console)
        tasks.start_soon(stand_in.run, store.hosts)
        try:
            yield client
        finally:
            stand_in.done.set()
            await stand_in.ended.wait()


async def _registered(file: StoreFile) -> bool:
    store = file.store()
    async with Hodei(store, providers=[]):
        return bool(await store.hosts.select())


class _StandIn:
    """Dispatches when nobody else does, until `done`."""

    def __init__(self, file: StoreFile, console: Console) -> None:
        self._file = file
        self._console = console
        self.done = anyio.Event()
        self.ended = anyio.Event()

    async def run(self, hosts: HostRegistry) -> None:
        try:
            if await unless_nobody_dispatches(hosts, self._until_done):
                return
            await self._console.say(
                f"no host dispatches from {self._file} any more: this program does"
            )
            async with Hodei(self._file.store()):
                await self.done.wait()
        except HodeiError as error:
            await self._console.say(str(error))
        finally:
            self.ended.set()

    async def _until_done(self) -> bool:
        await self.done.wait()
        return True
