"""Runs one job from its submission to its end, with the manners of a terminal program."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterable
from contextlib import suppress
from os import _exit

import anyio
import anyio.abc

from hodei_core.cli.console import OutputError
from hodei_core.cli.exits import NO_EXIT_CODE, SIGNAL_BASE, exit_code, in_words
from hodei_core.cli.pacing import Pace, PacedProvider
from hodei_core.cli.shows import Show
from hodei_core.errors import HodeiError
from hodei_core.events import JobRetried
from hodei_core.handle import JobHandle
from hodei_core.hodei import Hodei, default_provider
from hodei_core.specs import JobSpec

_BROKEN_PIPE = SIGNAL_BASE + 13
"""What a program ended by SIGPIPE leaves; by number, since not every system has the signal."""

_LAST_WORDS_SECONDS = 1.0
"""How long a cancelled job's last output may take to be printed: its reader may stand still."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


async def run_job(spec: JobSpec, show: Show) -> int:
    """Run a job and show it; return the exit code for the program.

    The first signal cancels the job, the second ends all at once.
    """
    return await _JobRun(spec, show).run()


class _JobRun:
    def __init__(self, spec: JobSpec, show: Show) -> None:
        self._spec = spec
        self._show = show
        self._console = show.console
        self._pace = Pace()
        self._received: signal.Signals | None = None
        self._job: JobHandle | None = None
        self._opening = anyio.CancelScope()
        self._printing = anyio.CancelScope()

    async def run(self) -> int:
        code = NO_EXIT_CODE
        with anyio.open_signal_receiver(*_cancelling_signals()) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals, tasks)
                code = await self._run(tasks)
                tasks.cancel_scope.cancel()
        return code

    async def _run(self, tasks: anyio.abc.TaskGroup) -> int:
        try:
            with self._opening:
                async with (
                    Hodei(providers=[PacedProvider(default_provider(), self._pace)]) as hodei,
                    hodei.events(JobRetried) as retries,
                ):
                    self._job = await hodei.submit(self._spec)
                    tasks.start_soon(self._tell_retries, retries)
                    return await self._follow(self._job)
        except HodeiError as error:
            await self._console.say(str(error))
            return NO_EXIT_CODE
        assert self._received is not None  # noqa: S101 - only a signal cancels the opening
        return SIGNAL_BASE + self._received

    async def _follow(self, job: JobHandle) -> int:
        """Show a job up to its end; return the exit code for the program."""
        try:
            with self._printing:
                await self._show_job(job)
        except OutputError as error:
            self._pace.lift()
            await job.cancel("its output can no longer be written")
            if error.closed:
                return _BROKEN_PIPE
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
                why = "could not start" if event.reason is None else f"failed ({event.reason.name})"
                seconds = max((event.due_at - event.at).total_seconds(), 0.0)
                await self._console.say(
                    f"attempt {event.attempt} {why}; the next follows in {seconds:.1f} s"
                )

    # Signals

    async def _obey(
        self, signals: AsyncIterable[signal.Signals], tasks: anyio.abc.TaskGroup
    ) -> None:
        async for received in signals:
            if self._received is None:
                self._received = received
                tasks.start_soon(self._cancel, _name(received))
            else:
                self._console.say_now(f"{_name(received)} again: killing the job")
                # What was started ends with this process, however that ends.
                _exit(SIGNAL_BASE + self._received)

    async def _cancel(self, name: str) -> None:
        grace = self._spec.grace.total_seconds()
        self._console.say_now(
            f"{name}: cancelling the job, which has {grace:g} s to end ({name} again: kill it)"
        )
        if self._job is None:
            self._opening.cancel()
            return
        with suppress(HodeiError):  # the host broke: whoever waits for the job is told
            await self._job.cancel(name)
        self._printing.deadline = anyio.current_time() + _LAST_WORDS_SECONDS


def _cancelling_signals() -> list[signal.Signals]:
    """Return the signals that cancel the job: none that whoever started us has ignored."""
    if sys.platform == "win32":
        return []
    signals = [signal.Signals[name] for name in _NAMES]
    return [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]


def _name(received: signal.Signals) -> str:
    return "Ctrl-C" if received is signal.SIGINT else received.name
