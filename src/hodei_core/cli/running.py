"""Runs one job from its submission to its end, with the manners of a terminal program."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager, suppress
from os import _exit

import anyio
import anyio.abc

from hodei_core.cli.console import OutputError
from hodei_core.cli.exits import (
    BROKEN_PIPE,
    NO_EXIT_CODE,
    SIGNAL_BASE,
    exit_code,
    in_words,
    retry_in_words,
)
from hodei_core.cli.hosts import dispatched
from hodei_core.cli.pacing import Pace, PacedProvider
from hodei_core.cli.shows import Show
from hodei_core.cli.signals import signal_name, stopping_signals
from hodei_core.cli.stores import StoreFile
from hodei_core.errors import HodeiError
from hodei_core.events import JobRetried
from hodei_core.handle import JobHandle
from hodei_core.hodei import Hodei, default_provider
from hodei_core.specs import JobSpec
from hodei_core.states import JobState

_LAST_WORDS_SECONDS = 1.0
"""How long a cancelled job's last output may take to be printed: its reader may stand still."""

_STAYING_SECONDS = 1.0
"""How long leaving a shared store may take before it is said why."""

_WAITING_SECONDS = 2.0
"""How long a job may wait for its first start before it is said why."""


async def run_job(spec: JobSpec, show: Show, file: StoreFile | None = None) -> int:
    """Run a job and show it; return the exit code for the program.

    The first signal cancels the job, the second ends all at once.

    Args:
        spec: the job.
        show: prints it.
        file: the store; None: one in memory.
    """
    return await _JobRun(spec, show, file).run()


class _JobRun:
    def __init__(self, spec: JobSpec, show: Show, file: StoreFile | None) -> None:
        self._spec = spec
        self._file = file
        self._show = show
        self._console = show.console
        self._pace = Pace()
        self._received: signal.Signals | None = None
        self._job: JobHandle | None = None
        self._submitted: anyio.Event | None = None
        """Set when it is known what became of the job; None before it is submitted."""

        self._code: int | None = None
        self._opening = anyio.CancelScope()
        self._printing = anyio.CancelScope()

    async def run(self) -> int:
        code = NO_EXIT_CODE
        with anyio.open_signal_receiver(*stopping_signals()) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals, tasks)
                code = await self._run(tasks)
                tasks.cancel_scope.cancel()
        return code

    async def _run(self, tasks: anyio.abc.TaskGroup) -> int:
        try:
            with self._opening:
                async with (
                    self._opened(tasks) as hodei,
                    hodei.events(JobRetried) as retries,
                ):
                    job = await self._submit(hodei)
                    tasks.start_soon(self._tell_retries, retries)
                    tasks.start_soon(self._tell_why_it_waits, job)
                    self._code = await self._follow(job)
                    if self._file is not None:
                        tasks.start_soon(self._tell_why_it_stays)
        except (HodeiError, OSError) as error:
            await self._console.say(str(error))
            return NO_EXIT_CODE if self._code is None else self._code
        if self._code is not None:
            return self._code
        assert self._received is not None  # noqa: S101 - only a signal cancels the opening
        return SIGNAL_BASE + self._received

    def _opened(self, tasks: anyio.abc.TaskGroup) -> AbstractAsyncContextManager[Hodei]:
        if self._file is None:
            return Hodei(providers=[PacedProvider(default_provider(), self._pace)])
        # What is printed is in the file: a slow reader loses nothing, and holds nothing back.
        return dispatched(self._file, self._console, tasks, self._tell_who_has_it)

    async def _submit(self, hodei: Hodei) -> JobHandle:
        """Store the job, also when a signal comes meanwhile: what is stored can be cancelled."""
        self._submitted = anyio.Event()
        try:
            self._job = await hodei.submit(self._spec)
        finally:
            self._submitted.set()
        return self._job

    async def _follow(self, job: JobHandle) -> int:
        """Show a job up to its end; return the exit code for the program."""
        try:
            with self._printing:
                await self._show_job(job)
        except OutputError as error:
            self._pace.lift()
            await job.cancel("its output can no longer be written")
            if error.closed:
                return BROKEN_PIPE
            await self._console.say(str(error))
            return NO_EXIT_CODE
        return exit_code(await job.wait(), self._received)

    async def _show_job(self, job: JobHandle) -> None:
        await self._show.begin(job.id)
        async for entries in job.logs().batches():
            await self._show.entries(entries)
            self._pace.printed(entries)
        result = await job.wait()
        words = in_words(result, self._spec)
        if words is not None:
            await self._console.say(words)
        await self._show.end(result)

    async def _tell_retries(self, retries: AsyncIterable[object]) -> None:
        """Say when an attempt has failed and another follows."""
        async for event in retries:
            if isinstance(event, JobRetried):
                await self._console.say(retry_in_words(event))

    async def _tell_why_it_waits(self, job: JobHandle) -> None:
        await anyio.sleep(_WAITING_SECONDS)
        await self._tell_where_it_is(job, JobState.PENDING)

    async def _tell_who_has_it(self, hodei: Hodei) -> None:
        """Say why a job is not begun anew yet that a host left which fell silent."""
        if self._job is not None:
            await anyio.sleep(_WAITING_SECONDS)
            await self._tell_where_it_is(hodei.handle(self._job.id), JobState.RUNNING)

    async def _tell_where_it_is(self, job: JobHandle, state: JobState) -> None:
        """Say why a job is where it is, if it is in this state."""
        with suppress(HodeiError):  # whoever follows the job is told
            explanation = await job.explain()
            if explanation.state is state:
                await self._console.say(f"job {job.id}: {explanation.summary}")

    async def _tell_why_it_stays(self) -> None:
        await anyio.sleep(_STAYING_SECONDS)
        await self._console.say(
            "the job has ended; waiting for others of the store that run here (Ctrl-C ends them)"
        )

    # Signals

    async def _obey(
        self, signals: AsyncIterable[signal.Signals], tasks: anyio.abc.TaskGroup
    ) -> None:
        async for received in signals:
            if self._code is not None and not self._opening.cancel_called:
                self._opening.cancel()
                self._console.say_now(f"{signal_name(received)}: {self._leaving}")
            elif self._received is None and self._code is None:
                self._received = received
                tasks.start_soon(self._cancel, signal_name(received))
            else:
                self._console.say_now(f"{signal_name(received)} again: {self._last_resort}")
                await self._let_request_be_stored()
                # What was started here ends with this process, however that ends.
                _exit(SIGNAL_BASE + (self._received or received))

    async def _let_request_be_stored(self) -> None:
        """Give the request to cancel time to reach a store whose job others run."""
        if self._file is None or self._submitted is None or self._code is not None:
            return
        with anyio.move_on_after(_LAST_WORDS_SECONDS), suppress(HodeiError):
            await self._submitted.wait()
            if self._job is not None:
                await self._job.wait()

    @property
    def _leaving(self) -> str:
        if self._file is None:
            return "leaving"
        return "ending the jobs of others that run here, 10 s at most (again: kill them)"

    @property
    def _last_resort(self) -> str:
        if self._file is None:
            return "killing the job"
        if self._code is not None:
            return "killing the jobs of others that run here"
        return "leaving; a job that runs here is killed, another is left to its host"

    async def _cancel(self, name: str) -> None:
        grace = self._spec.grace.total_seconds()
        self._console.say_now(
            f"{name}: cancelling the job, which has {grace:g} s to end ({name} again: kill it)"
        )
        if self._submitted is not None:
            await self._submitted.wait()
        if self._job is None:
            self._opening.cancel()
            return
        with suppress(HodeiError):  # the host broke: whoever waits for the job is told
            await self._job.cancel(name)
        self._printing.deadline = anyio.current_time() + _LAST_WORDS_SECONDS
