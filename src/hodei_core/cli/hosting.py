"""Runs a host that dispatches from a store until it is told to stop."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterable
from datetime import timedelta
from os import _exit

import anyio
import anyio.abc

from hodei_core.cli.console import Console
from hodei_core.cli.exits import REFUSED, SIGNAL_BASE, retry_in_words
from hodei_core.cli.signals import signal_name, stopping_signals
from hodei_core.cli.stores import StoreFile
from hodei_core.errors import HodeiError
from hodei_core.events import JobFinished, JobRetried, JobStarted
from hodei_core.hodei import Hodei
from hodei_core.ports import WorkerProvider
from hodei_core.states import Reason

_LAST_WORDS_SECONDS = 1.0
"""How long the last messages may take to be printed: their reader may stand still."""


async def run_host(
    file: StoreFile,
    provider: WorkerProvider,
    *,
    shutdown_timeout: float | timedelta | None = None,
    quiet: bool = False,
) -> int:
    """Dispatch until a signal comes; return the exit code.

    The first signal ends the assigning, and what runs is waited for; the second ends what runs
    in order, the third kills it.
    """
    return await _HostRun(file, provider, shutdown_timeout, quiet).run()


class _HostRun:
    def __init__(
        self,
        file: StoreFile,
        provider: WorkerProvider,
        shutdown_timeout: float | timedelta | None,
        quiet: bool,
    ) -> None:
        self._file = file
        self._provider = provider
        self._shutdown_timeout = shutdown_timeout
        self._quiet = quiet
        self._console = Console()
        self._told = anyio.Event()
        self._life = anyio.CancelScope()
        self._said_all = anyio.Event()
        self._said_all.set()

    async def run(self) -> int:
        _show_warnings()
        code = REFUSED
        with anyio.open_signal_receiver(*stopping_signals()) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals)
                code = await self._dispatch(tasks)
                tasks.cancel_scope.cancel()
        return code

    async def _dispatch(self, tasks: anyio.abc.TaskGroup) -> int:
        try:
            with self._life:
                hodei = Hodei(
                    self._file.store(),
                    providers=[self._provider],
                    shutdown_timeout=self._shutdown_timeout,
                )
                if not self._quiet:  # before it opens: what waits may be over at once
                    await tasks.start(self._tell, hodei)
                async with hodei:
                    offer = self._provider.offer
                    slots = f"{offer.slots} slot" + ("" if offer.slots == 1 else "s")
                    await self._console.say(
                        f"dispatching from {self._file}: {offer.provider}, {slots}; Ctrl-C stops"
                    )
                    await self._told.wait()
        except (HodeiError, OSError) as error:
            await self._console.say(str(error))
            return REFUSED
        with anyio.move_on_after(_LAST_WORDS_SECONDS):
            await self._said_all.wait()
        await self._console.say("stopped")
        return 0

    async def _tell(self, hodei: Hodei, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Say what becomes of jobs, up to the end of the host."""
        self._said_all = anyio.Event()
        async with hodei.events(JobStarted, JobRetried, JobFinished) as events:
            task_status.started()
            async for event in events:
                if isinstance(event, JobStarted):
                    await self._console.say(f"job {event.job_id} started on {event.worker_id}")
                elif isinstance(event, JobRetried):
                    await self._console.say(f"job {event.job_id}: {retry_in_words(event)}")
                elif isinstance(event, JobFinished):
                    await self._console.say(f"job {event.job_id} {_end(event)}")
        self._said_all.set()

    async def _obey(self, signals: AsyncIterable[signal.Signals]) -> None:
        async for received in signals:
            name = signal_name(received)
            if not self._told.is_set():
                self._told.set()
                self._console.say_now(
                    f"{name}: starting no more jobs, waiting for those that run "
                    f"({name} again: end them)"
                )
            elif not self._life.cancel_called:
                self._life.cancel()
                self._console.say_now(f"{name}: ending the jobs that run ({name} again: kill them)")
            else:
                self._console.say_now(f"{name}: killing the jobs that run")
                # What was started ends with this process, however that ends.
                _exit(SIGNAL_BASE + received)


def _end(event: JobFinished) -> str:
    if event.reason in (None, Reason.CANCELLED):
        return event.state.name
    coded = event.reason in (Reason.EXIT_CODE, Reason.SIGNALLED)
    return f"{event.state.name} ({f'exit code {event.exit_code}' if coded else event.reason.name})"


def _show_warnings() -> None:
    """Show on standard error what the library warns of."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("hodei: %(message)s"))
    logging.getLogger("hodei_core").addHandler(handler)
