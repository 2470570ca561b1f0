"""`Hodei` without `async`: each method says which one it is the twin of, and what differs.

Longer than other modules for the reason that its twin is: the whole surface is one class.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast, overload

import anyio

from hodei_core.blocking.handle import JobHandle
from hodei_core.blocking.portal import SERVED_SECONDS, Portal, alone
from hodei_core.blocking.streams import EventStream
from hodei_core.clock import Clock
from hodei_core.compat import Self, Unpack
from hodei_core.events import Event, SubscriberLagged
from hodei_core.handle import JobHandle as AsyncJobHandle
from hodei_core.hodei import Hodei as AsyncHodei
from hodei_core.jobs import Job
from hodei_core.ports import Store, WorkerProvider
from hodei_core.results import JobResult
from hodei_core.runtime.loops import running_loop
from hodei_core.scheduling.scheduler import Scheduler
from hodei_core.specs import Command, JobFields, JobSpec
from hodei_core.states import JobState
from hodei_core.stats import Stats
from hodei_core.workers import Worker

E = TypeVar("E", bound=Event)

_RUN_MARGIN_SECONDS = 5.0  # beyond the grace, that a cancelled `run` itself allows its job to end


class Hodei:
    """Runs jobs from inside this program: the twin of `hodei_core.Hodei`, without `async`.

    ```python
    with Hodei() as hodei:
        result = hodei.run("git rev-parse HEAD", check=True)
    ```

    Its event loop runs in a thread of its own, from the opening to the close. Any thread may
    call it, several at once too, but for that one: a call from a handler of `MemoryProvider`
    is a RuntimeError.

    Ctrl-C ends the call that waits, as a cancellation ends that of the twin: in `run` the job is
    cancelled, elsewhere nothing happens to it; then KeyboardInterrupt goes on. If it reaches the
    end of the block, every job is ended at once. A further Ctrl-C goes on at once; what it does
    not wait for is ended in the background, and killed if the program ends before.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        *,
        providers: Sequence[WorkerProvider] | None = None,
        scheduler: Scheduler | None = None,
        shutdown_timeout: float | timedelta | None = None,
        stuck_after: float | timedelta | None = 300,
        max_pending: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        make = partial(
            AsyncHodei,
            store,
            providers=providers,
            scheduler=scheduler,
            shutdown_timeout=shutdown_timeout,
            stuck_after=stuck_after,
            max_pending=max_pending,
            clock=clock,
        )
        # Where an event loop runs, in a notebook say, what it is made of would belong to that one.
        self._twin = make() if running_loop() is None else alone(_later(make))
        self._portal = Portal(self._end_at_once)

    def __repr__(self) -> str:
        return f"<blocking.{repr(self._twin)[1:]}"

    # Opening and closing

    def __enter__(self) -> Self:
        try:
            self.open()
            return self
        except KeyboardInterrupt:
            self._portal.close(self._end_at_once)  # it may have come when all was open
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc is None:
                self.close()
            else:
                with suppress(Exception):  # the exception of the body goes on
                    self._portal.close(self._end_at_once)
        except KeyboardInterrupt:
            self._portal.close(self._end_at_once)  # it may have come before the close began
            raise

    def open(self) -> Self:
        """Open as `hodei_core.Hodei.open` does, whatever event loop runs here.

        If it is not closed, what runs is ended when the program ends, within 4 s.
        """
        self._portal.open(self._twin.open)
        return self

    def close(self) -> None:
        """Close as `hodei_core.Hodei.aclose` does; from any thread.

        Ctrl-C ends every job at once; KeyboardInterrupt goes on when all is closed.
        """
        self._portal.close(self._twin.aclose)

    async def _end_at_once(self) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await self._twin.aclose()
        await self._twin.aclose()

    # Submitting

    @overload
    def submit(self, spec: JobSpec, /) -> JobHandle: ...
    @overload
    def submit(self, command: Command, /, **fields: Unpack[JobFields]) -> JobHandle: ...
    def submit(self, command: JobSpec | Command, /, **fields: Unpack[JobFields]) -> JobHandle:
        """Store a job as `hodei_core.Hodei.submit` does."""
        submit = cast("Callable[..., Awaitable[AsyncJobHandle]]", self._twin.submit)
        return self._handle(self._portal.call(lambda: submit(command, **fields)))

    def submit_many(self, jobs: Iterable[JobSpec | Command]) -> list[JobHandle]:
        """Store many jobs as `hodei_core.Hodei.submit_many` does; they are iterated over here."""
        given = jobs if isinstance(jobs, (str, bytes, JobSpec)) else list(jobs)
        handles = self._portal.call(lambda: self._twin.submit_many(given))
        return [self._handle(handle) for handle in handles]

    @overload
    def run(self, spec: JobSpec, /, *, check: bool = False) -> JobResult: ...
    @overload
    def run(
        self, command: Command, /, *, check: bool = False, **fields: Unpack[JobFields]
    ) -> JobResult: ...
    def run(
        self, command: JobSpec | Command, /, *, check: bool = False, **fields: Unpack[JobFields]
    ) -> JobResult:
        """Run a job as `hodei_core.Hodei.run` does.

        Ctrl-C cancels the job; KeyboardInterrupt goes on when its process tree is gone and that
        is stored.
        """
        if not isinstance(command, JobSpec):
            command, fields = JobSpec(command, **fields), {}
        run = cast("Callable[..., Awaitable[JobResult]]", self._twin.run)
        patience = command.grace.total_seconds() + _RUN_MARGIN_SECONDS + SERVED_SECONDS
        return self._portal.call(lambda: run(command, check=check, **fields), patience=patience)

    # Reading

    def handle(self, job_id: str) -> JobHandle:
        """Return the handle of a job as `hodei_core.Hodei.handle` does."""
        return self._handle(self._twin.handle(job_id))

    def get_job(self, job_id: str) -> Job:
        """Return a job as `hodei_core.Hodei.get_job` does."""
        return self._portal.call(lambda: self._twin.get_job(job_id))

    def list_jobs(
        self,
        *,
        states: JobState | Iterable[JobState] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """Return jobs as `hodei_core.Hodei.list_jobs` does."""
        return self._portal.call(
            lambda: self._twin.list_jobs(
                states=states, labels=labels, name=name, limit=limit, after=after
            )
        )

    def list_workers(self) -> list[Worker]:
        """Return the workers as `hodei_core.Hodei.list_workers` does."""
        return self._portal.call(self._twin.list_workers)

    def stats(self) -> Stats:
        """Return counts as `hodei_core.Hodei.stats` does."""
        return self._portal.call(self._twin.stats)

    @overload
    def events(self) -> EventStream[Event]: ...
    @overload
    def events(self, *types: type[E]) -> EventStream[E | SubscriberLagged]: ...
    def events(self, *types: type[Event]) -> EventStream[Event]:
        """Return a stream of events as `hodei_core.Hodei.events` does, for `with` and `for`."""

        def make() -> Any:
            self._twin._host.gate.check_readable()  # no loop runs before the opening
            return self._twin.events(*types)

        return EventStream(self._portal, self._portal.here(make))

    # Acting on many jobs

    def cancel_jobs(
        self,
        *,
        states: JobState | Iterable[JobState] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        reason: str | None = None,
    ) -> int:
        """End jobs as `hodei_core.Hodei.cancel_jobs` does; Ctrl-C ends only the wait."""
        return self._portal.call(
            lambda: self._twin.cancel_jobs(states=states, labels=labels, name=name, reason=reason)
        )

    def join(self) -> None:
        """Wait as `hodei_core.Hodei.join` does."""
        self._portal.call(self._twin.join)

    def drain(self) -> None:
        """Assign no more jobs as `hodei_core.Hodei.drain` does; Ctrl-C leaves it draining."""
        self._portal.call(self._twin.drain)

    def resume(self) -> None:
        """Assign jobs again as `hodei_core.Hodei.resume` does."""
        self._portal.call(self._twin.resume)

    def prune(self, *, older_than: float | timedelta) -> int:
        """Delete old jobs as `hodei_core.Hodei.prune` does."""
        return self._portal.call(lambda: self._twin.prune(older_than=older_than))

    def _handle(self, handle: AsyncJobHandle) -> JobHandle:
        return JobHandle(self._portal, handle)


def _later(make: Callable[[], AsyncHodei]) -> Callable[[], Awaitable[AsyncHodei]]:
    async def made() -> AsyncHodei:
        return make()

    return made
