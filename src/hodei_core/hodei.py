"""`Hodei`: the front door. It checks what it is given and leaves the rest to the runtime.

Longer than other modules: the whole surface is one class, each method with its contract.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, overload

import anyio

from hodei_core.ambient import ambient
from hodei_core.checks import span, text, text_or_none, whole_number
from hodei_core.clock import Clock
from hodei_core.compat import Self, Unpack
from hodei_core.errors import HodeiBrokenError, HodeiClosedError
from hodei_core.events import Event, SubscriberLagged
from hodei_core.handle import JobHandle
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.ports import (
    JobFilter,
    Store,
    WorkerProvider,
)
from hodei_core.results import JobResult
from hodei_core.runtime.elsewhere import live_workers
from hodei_core.runtime.event_bus import EventStream
from hodei_core.runtime.gate import Stop
from hodei_core.runtime.interrupts import deferring_ctrl_c, starter
from hodei_core.scheduling.scheduler import Scheduler, SmartScheduler
from hodei_core.specs import Command, JobFields, JobSpec
from hodei_core.states import JobState
from hodei_core.stats import Stats
from hodei_core.workers import Worker, WorkerState

if TYPE_CHECKING:
    import asyncio

    from anyio.abc import TaskGroup

E = TypeVar("E", bound=Event)

_SPECS_A_TURN = 500  # jobs checked before other tasks get their turn
_SERVING = (WorkerState.READY, WorkerState.BUSY, WorkerState.DRAINING)
_GONE = (WorkerState.TERMINATED, WorkerState.LOST)
_RUN_MARGIN_SECONDS = 5.0  # beyond the grace, that a cancelled `run` waits for its job's end


class Hodei:
    """Runs jobs from inside this program.

    ```python
    async with Hodei() as hodei:
        result = await hodei.run("git rev-parse HEAD", check=True)
    ```

    It is opened once. Leaving the block normally waits for what runs, and with a memory store
    for what waits too; leaving it by an exception or a cancellation ends every job at once
    (SIGTERM, grace, SIGKILL). Every method raises `ForkedError` in a forked child and
    `HodeiBrokenError` once a loop of the library has failed by a bug. With a store in a file, every
    method that reads or writes it raises `StoreBusyError` if it stayed locked for 5 s and
    `StoreInvalidError` if it is gone or cannot be read, and those that write `StoreFullError` if
    there is no space; nothing was changed then.

    Args:
        store: where jobs are kept; None or "memory://": in memory; "sqlite:///jobs.db" or a
            path: in a SQLite file, which survives the program and which several may share.
        providers: what makes workers; None: `[LocalProvider()]`; `[]`: a client that only
            submits and reads.
        scheduler: who runs where; None: `SmartScheduler()`.
        shutdown_timeout: seconds that leaving the block normally waits at most, before what
            runs is ended; None: without end.
        stuck_after: seconds that a due job waits before `JobStuck` is published; None: never.
        max_pending: the most jobs that may wait; `submit` raises `QueueFullError` beyond it.
        clock: tells the time; None: the system's, in a simulation the simulated one.

    Raises:
        ValueError, TypeError: an argument is not acceptable; the error names it.
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
        if max_pending is not None:
            whole_number("max_pending", max_pending, least=1)
        # With the first Hodei, not with the package: a sixth of what importing it would cost.
        from hodei_core.runtime.host import Host
        from hodei_core.runtime.service import Service

        self._host = Host(
            store=resolve_store(store),
            providers=_resolve_providers(providers),
            scheduler=scheduler or SmartScheduler(),
            clock=clock or ambient().clock,
            shutdown_timeout=_span("shutdown_timeout", shutdown_timeout),
            stuck_after=_span("stuck_after", stuck_after),
            explain=self._explain,
        )
        self._service = Service(self._host, max_pending=max_pending)
        self._tasks: TaskGroup | None = None
        self._body: anyio.CancelScope | None = None
        self._owner: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Hodei {self._host.gate.sign} {type(self._host.store).__name__}>"

    # Opening and closing

    async def __aenter__(self) -> Self:
        await deferring_ctrl_c(self._enter)()
        return self

    async def _enter(self) -> None:
        self._host.gate.begin()
        opened = anyio.Event()
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        errors: list[BaseException] = []
        starter(tasks)(self._own, opened, errors, name="hodei")
        try:
            await opened.wait()
        except BaseException:
            await self._host.stop(Stop.AT_ONCE)
            await tasks.__aexit__(None, None, None)
            raise
        if errors:
            await tasks.__aexit__(None, None, None)
            raise errors[0]
        self._tasks = tasks
        self._body = body = anyio.CancelScope()
        body.__enter__()
        self._host.on_failure = body.cancel
        if self._host.failure is not None:
            body.cancel()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await deferring_ctrl_c(lambda: self._leave(exc_type, exc, traceback))()

    async def _leave(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        tasks = self._tasks
        assert tasks is not None and self._body is not None, "it was entered"  # noqa: S101, PT018
        self._host.gate.check_place()
        swallowed, rest = False, None
        try:
            swallowed = bool(self._body.__exit__(exc_type, exc, traceback))
        except BaseException as error:  # what is left of a group of which ours was a part
            rest = error
        try:
            await self._host.stop(Stop.NORMALLY if exc is None else Stop.AT_ONCE)
        finally:
            await tasks.__aexit__(None, None, None)
        failure = self._host.failure
        left = None if swallowed else exc if rest is None else rest
        if failure is not None and (_yields(left) or not isinstance(failure, Exception)):
            raise failure
        if rest is not None:
            raise rest
        return swallowed

    async def open(self) -> Self:
        """Open outside `async with`: in a notebook, or in start and stop hooks.

        The loops live in a task of their own until `aclose`.

        Raises:
            RuntimeError: not under asyncio; there use `async with`.
        """
        self._host.gate.check_place()
        import asyncio  # a third of the time to import this package, and under trio for nothing

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            msg = "open() needs asyncio; with trio use `async with Hodei() as hodei:`"
            raise RuntimeError(msg) from None
        self._host.gate.begin()
        opened = anyio.Event()
        errors: list[BaseException] = []
        self._owner = loop.create_task(self._own(opened, errors), name="hodei")
        try:
            await opened.wait()
        except BaseException:
            await self._host.stop(Stop.AT_ONCE)
            raise
        if errors:
            raise errors[0]
        return self

    async def aclose(self) -> None:
        """Close as leaving the block normally does; from any task, idempotent.

        Being cancelled ends every job at once; the call returns when all is closed.
        """
        if not self._host.gate.begun:
            return
        await self._host.stop(Stop.NORMALLY)
        if self._owner is not None:
            import asyncio

            await asyncio.wait([self._owner])
        if self._host.failure is not None:
            raise self._host.failure

    async def _own(self, opened: anyio.Event, errors: list[BaseException]) -> None:
        """Run the host; give an error of its opening to whoever waits for that."""
        try:
            await self._host.serve(opened)
        except Exception as error:
            if opened.is_set():
                raise
            errors.append(error)
        finally:
            opened.set()

    async def _explain(self, job: Job) -> str:
        """Return why a job is where it is, for those whom nobody asked."""
        return await self._service.explain_text(job)

    # Submitting

    @overload
    async def submit(self, spec: JobSpec, /) -> JobHandle: ...
    @overload
    async def submit(self, command: Command, /, **fields: Unpack[JobFields]) -> JobHandle: ...
    async def submit(self, command: JobSpec | Command, /, **fields: Unpack[JobFields]) -> JobHandle:
        """Store a job; return its handle. When this returns, the job is accepted.

        Args:
            command: text for a shell, a sequence of arguments, or a `JobSpec`.
            fields: the other fields of `JobSpec`.

        Raises:
            InvalidJobError: a field is not acceptable; the error names it.
            KeyConflictError: its key belongs to a job that does other work.
            QueueFullError: `max_pending` jobs wait already.
            HodeiClosedError: not open, or closing.
            TypeError: there is no such field; or fields beside a `JobSpec`.
        """
        self._host.gate.check_open()
        (job,) = await self._service.accept((_spec(command, fields),))
        return JobHandle(self._service, job.id)

    async def submit_many(self, jobs: Iterable[JobSpec | Command]) -> list[JobHandle]:
        """Store many jobs in one transaction, all or none; return their handles in order.

        Raises:
            InvalidJobError, KeyConflictError, QueueFullError, HodeiClosedError: as in `submit`.
            TypeError: `jobs` is one text, not many jobs.
        """
        if isinstance(jobs, (str, bytes, JobSpec)):
            msg = f"submit_many takes an iterable of jobs, not one {type(jobs).__name__}"
            raise TypeError(msg)
        self._host.gate.check_open()
        specs: list[JobSpec] = []
        for job in jobs:
            specs.append(_spec(job, {}))
            if not len(specs) % _SPECS_A_TURN:
                await anyio.sleep(0)
        if not specs:
            return []
        return [JobHandle(self._service, job.id) for job in await self._service.accept(specs)]

    @overload
    async def run(self, spec: JobSpec, /, *, check: bool = False) -> JobResult: ...
    @overload
    async def run(
        self, command: Command, /, *, check: bool = False, **fields: Unpack[JobFields]
    ) -> JobResult: ...
    async def run(
        self, command: JobSpec | Command, /, *, check: bool = False, **fields: Unpack[JobFields]
    ) -> JobResult:
        """Submit a job and return how it ended. Cancelling the call cancels the job.

        Args:
            command: as in `submit`.
            check: whether to raise if the job does not succeed.
            fields: as in `submit`.

        Raises:
            JobFailedError: `check` is set, and the job did not succeed.
            InvalidJobError, KeyConflictError, QueueFullError, HodeiClosedError: as in `submit`.
        """
        self._host.gate.check_open()
        spec = _spec(command, fields)
        with self._service.waiting_for_a_new_one() as wait:
            try:
                await wait.submit(spec)
                result = await wait.result()
            except BaseException:
                longest = spec.grace.total_seconds() + _RUN_MARGIN_SECONDS
                with anyio.move_on_after(longest, shield=True):
                    await self._service.abandon(wait.job_id, "the call of run() was cancelled")
                raise
        return result.check() if check else result

    # Reading

    def handle(self, job_id: str) -> JobHandle:
        """Return the handle of a job by its id; a wrong id shows at its first use."""
        return JobHandle(self._service, JobId(text("job_id", job_id)))

    async def get_job(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            JobNotFoundError: it is unknown, or was pruned.
        """
        return await self._service.reading.job(JobId(text("job_id", job_id)))

    async def list_jobs(
        self,
        *,
        states: JobState | Iterable[JobState] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Job]:
        """Return jobs that meet every condition, the last submitted first.

        Args:
            states: in any of these.
            labels: with all of these.
            name: with exactly this name.
            limit: at most so many.
            after: only jobs submitted before this one: the next page.

        Raises:
            JobNotFoundError: `after` is unknown.
            ValueError, TypeError: an argument is not acceptable; the error names it.
        """
        self._host.gate.check_readable()
        whole_number("limit", limit, least=1)
        jobs = await self._host.store.jobs.select(
            _filter(states, labels, name),
            limit=limit,
            after=None if after is None else JobId(text("after", after)),
        )
        return [self._service.reading.shown(job) for job in jobs]

    async def list_workers(self) -> list[Worker]:
        """Return the workers that are alive, oldest first."""
        self._host.gate.check_readable()
        workers = await live_workers(self._host.store)
        return [worker for worker in workers if worker.state not in _GONE]

    async def stats(self) -> Stats:
        """Return counts of jobs, workers and slots, and the state of each provider."""
        self._host.gate.check_readable()
        jobs = await self._host.store.jobs.counts()
        workers = await live_workers(self._host.store)
        states = dict.fromkeys(WorkerState, 0)
        for worker in workers:
            states[worker.state] += 1
        serving = [worker for worker in workers if worker.state in _SERVING]
        return Stats(
            pending=jobs[JobState.PENDING],
            jobs=jobs,
            workers=states,
            slots_used=sum(worker.slots_used for worker in serving),
            slots_total=sum(worker.slots for worker in serving),
            providers=self._host.fleet.stats(),
        )

    @overload
    def events(self) -> EventStream[Event]: ...
    @overload
    def events(self, *types: type[E]) -> EventStream[E | SubscriberLagged]: ...
    def events(self, *types: type[Event]) -> EventStream[Event]:
        """Return a stream of events of these types, of all if none is named.

        Seen are the events after `async with` was entered, all of them if that was before the
        opening. A `SubscriberLagged` may come in any stream.
        """
        self._host.gate.check_listenable()
        _check_classes(types)
        return self._host.bus.subscribe(types)

    # Acting on many jobs

    async def cancel_jobs(
        self,
        *,
        states: JobState | Iterable[JobState] | None = None,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        reason: str | None = None,
    ) -> int:
        """End the jobs that match and are not final, all of them if there is no condition.

        The requests are stored in one transaction. Returns when each is final: how many
        ended CANCELLED.

        Raises:
            JobNotFoundError: one of them was pruned while it was waited for.
            TypeError: an argument is not acceptable; the error names it.
        """
        matching = _filter(states, labels, name)
        return await self._service.cancel_matching(matching, text_or_none("reason", reason))

    async def join(self) -> None:
        """Return when no job of this store is pending or running."""
        await self._service.join()

    async def drain(self) -> None:
        """Assign no more jobs, until `resume`; return when nothing of this host runs.

        Being cancelled leaves the host draining.
        """
        await self._service.drain()

    async def resume(self) -> None:
        """Assign jobs again after `drain`."""
        self._host.gate.check_open()
        self._host.resume()

    async def prune(self, *, older_than: float | timedelta) -> int:
        """Delete final jobs that ended longer ago than this, with attempts and logs.

        Many are deleted a slice at a time, so that nobody who writes meanwhile waits for
        long. Being cancelled leaves the rest. Returns how many were deleted.

        Args:
            older_than: seconds, or a `timedelta`; at most 36,525 days.

        Raises:
            ValueError, TypeError: `older_than` is negative, too long or no span.
        """
        self._host.gate.check_readable()
        return await self._service.prune(self._host.clock.now() - span("older_than", older_than))


def resolve_store(store: Store | str | os.PathLike[str] | None) -> Store:
    """Return the store that the first argument of `Hodei` names.

    Raises:
        ValueError, TypeError: it names none.
    """
    if isinstance(store, Store):
        return store
    if store is None or store == "memory://":
        from hodei_core.backends.memory import MemoryStore

        return MemoryStore()
    path = _store_path(store)
    from hodei_core.backends.sqlite import SqliteStore

    return SqliteStore(path)


def _store_path(store: object) -> str:
    """Return the path of a SQLite file that a text or a path names.

    Raises:
        ValueError: it names no store.
        TypeError: it is neither text nor a path.
    """
    if not isinstance(store, (str, os.PathLike)):
        msg = f"store must be None, text, a path or a Store, not {type(store).__name__}"
        raise TypeError(msg)
    path: str = os.fspath(store)
    scheme, separator, rest = path.partition("://")
    if separator and isinstance(store, str):
        if scheme != "sqlite" or not rest.startswith("/"):
            msg = f"store must be 'memory://', 'sqlite:///path' or a path, not {store!r}"
            raise ValueError(msg)
        path = rest[1:]
    if not path or "\0" in path:
        msg = f"store names no file: {store!r}"
        raise ValueError(msg)
    return path


def default_provider(*, name: str = "local", slots: int | None = None) -> WorkerProvider:
    """Return what runs the jobs of a `Hodei` that is given no providers."""
    from hodei_core.backends.local import LocalProvider

    return LocalProvider(name=name, slots=slots)


def _resolve_providers(providers: Sequence[WorkerProvider] | None) -> tuple[WorkerProvider, ...]:
    if providers is None:
        return (default_provider(),)
    given = tuple(providers)
    names = [provider.offer.provider for provider in given]
    for name in names:
        if names.count(name) > 1:
            msg = f"providers must have different names; {name!r} comes more than once"
            raise ValueError(msg)
    return given


def _spec(command: JobSpec | Command, fields: JobFields) -> JobSpec:
    if not isinstance(command, JobSpec):
        return JobSpec(command, **fields)
    if fields:
        msg = (
            f"fields beside a JobSpec ({', '.join(fields)}): "
            "change the spec with attrs.evolve(spec, ...)"
        )
        raise TypeError(msg)
    return command


def _filter(
    states: JobState | Iterable[JobState] | None,
    labels: Mapping[str, str] | None,
    name: str | None,
) -> JobFilter:
    wanted = None
    if states is not None:
        if isinstance(states, str):  # else each of its letters would be taken for a state
            _check_states((states,))
        wanted = frozenset((states,) if isinstance(states, JobState) else states)
        _check_states(wanted)
    if labels is not None:
        _check_labels(labels)
    return JobFilter(states=wanted, labels=labels or {}, name=text_or_none("name", name))


def _span(name: str, value: float | timedelta | None) -> timedelta | None:
    return None if value is None else span(name, value)


def _check_labels(labels: object) -> None:
    if not isinstance(labels, Mapping):
        msg = f"labels must be a mapping of names to values, not {type(labels).__name__}"
        raise TypeError(msg)
    for label, value in labels.items():
        text("the name of a label", label)
        text(f"the value of label {label!r}", value)


def _check_states(states: Iterable[object]) -> None:
    for state in states:
        if not isinstance(state, JobState):
            msg = f"states must be JobState members, not {state!r}"
            raise TypeError(msg)


def _check_classes(types: Iterable[object]) -> None:
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            msg = f"events takes classes of events, not {kind!r}"
            raise TypeError(msg)


def _yields(error: BaseException | None) -> bool:
    """Return whether what leaves a block says no more than that its host has failed."""
    inner = getattr(error, "exceptions", None)
    if isinstance(inner, tuple):
        return all(map(_yields, inner))
    return error is None or isinstance(error, (HodeiBrokenError, HodeiClosedError))
