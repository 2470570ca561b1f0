"""Opens a store as a client, asks it something, and says in one line what is wrong."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import click

from hodei_core.cli.console import Console, OutputError
from hodei_core.cli.exits import BROKEN_PIPE, REFUSED
from hodei_core.cli.records import json_line
from hodei_core.cli.stores import StoreFile
from hodei_core.errors import HodeiError, JobNotFoundError
from hodei_core.handle import JobHandle
from hodei_core.hodei import Hodei
from hodei_core.ids import HostId, JobId
from hodei_core.ports import JobFilter, Store

LEAST_DIGITS = 4
"""How much of a job's id has to be written at least."""

_ID_LENGTH = 36
_NAMED = 10  # jobs that a message names


class RefusedError(Exception):
    """What was asked for cannot be done; the message says why."""


class Client:
    """An open store, and where the answer goes."""

    def __init__(self, hodei: Hodei, store: Store, file: StoreFile, console: Console) -> None:
        self.hodei = hodei
        self.file = file
        self.console = console
        self.store = store

    async def hosts(self) -> int:
        """Return how many hosts are registered, but for those that are certain to be dead."""
        hosts = self.store.hosts
        return 0 if hosts is None else len(await hosts.select()) - len(await hosts.dead())

    async def is_there(self, host_id: HostId | None) -> bool:
        """Return whether a host is registered and not certain to be dead."""
        hosts = self.store.hosts
        if hosts is None:
            return False
        registered = {record.id for record in await hosts.select()}
        return host_id in registered.difference(await hosts.dead())

    async def print(self, text: str) -> None:
        """Print a text on standard output."""
        await self.console.out.write_text(text)

    async def print_object(self, fields: dict[str, object]) -> None:
        """Print one line of JSON."""
        await self.console.out.write(json_line(fields))

    async def job(self, text: str) -> JobHandle:
        """Return the one job whose id is this, or begins with it.

        Raises:
            JobNotFoundError: there is none.
            RefusedError: there are several.
        """
        if len(text) >= _ID_LENGTH:
            return self.hodei.handle((await self.hodei.get_job(text)).id)
        found = await self.store.jobs.select(JobFilter(id_prefix=text), limit=_NAMED + 1)
        if not found:
            msg = f"no job {text!r}"
            raise JobNotFoundError(msg, job_id=text)
        if len(found) > 1:
            named = "\n".join(f"  {job.id}" for job in found[:_NAMED])
            more = "\n  and more" if len(found) > _NAMED else ""
            raise RefusedError(f"{text!r} is the beginning of several ids:\n{named}{more}")
        return self.hodei.handle(found[0].id)


Question = Callable[[Client], Awaitable[int]]


def ask(file: StoreFile, question: Question) -> int:
    """Ask a store; return the exit code."""
    try:
        return anyio.run(_ask, file, question)
    except CancelledError:  # as Python 3.10 tells of Ctrl-C
        raise KeyboardInterrupt from None


async def _ask(file: StoreFile, question: Question) -> int:
    console = Console()
    try:
        store = file.store()
        async with Hodei(store, providers=[]) as hodei:
            return await question(Client(hodei, store, file, console))
    except OutputError as error:
        if error.closed:
            return BROKEN_PIPE
        await console.say(str(error))
    except (RefusedError, HodeiError, OSError) as error:
        await console.say(str(error))
    return REFUSED


@asynccontextmanager
async def beside(call: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Make a call beside a block, until that is left; an error of the block is in no group."""
    errors: list[Exception] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        try:
            yield
        except Exception as error:  # raised below
            errors.append(error)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]


def job_id(text: str) -> JobId:
    """Return the id of a job, or its beginning, as the user wrote it."""
    if len(text) < LEAST_DIGITS:
        raise click.BadParameter(
            f"{text!r} is too short: write at least {LEAST_DIGITS} characters of an id"
        )
    return JobId(text.lower())
