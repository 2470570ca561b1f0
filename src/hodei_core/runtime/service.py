"""What `Hodei` and its handles have in common: each call checked, carried out, answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

import anyio

from hodei_core.errors import (
    HodeiError,
    JobNotFinalError,
    StoreBusyError,
    StoreFullError,
    StoreInvalidError,
)
from hodei_core.explanations import Explanation
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogSource
from hodei_core.ports import (
    Accept,
    CancelRequest,
    Change,
    JobFilter,
    Outcome,
    Prune,
    RequestCancel,
    Submission,
)
from hodei_core.results import JobResult
from hodei_core.runtime.host import Host
from hodei_core.runtime.interrupts import deferring_ctrl_c
from hodei_core.runtime.log_stream import LogStream
from hodei_core.runtime.reading import Reading
from hodei_core.runtime.shutdown import nothing_left
from hodei_core.runtime.slices import SLICE_JOBS, in_slices
from hodei_core.runtime.waiters import Waiter
from hodei_core.specs import JobSpec
from hodei_core.states import JobState

_ABANDON_SECONDS = 0.2  # before a store that refuses is asked again
_ACCEPTED_A_TURN = 64  # jobs stored before other tasks get their turn


class NewWait:
    """The wait for a job that is about to be stored: its end need not be looked for."""

    def __init__(self, service: Service, waiter: Waiter, job_id: JobId) -> None:
        self._service = service
        self._waiter = waiter
        self._new_id = job_id
        self.job_id: JobId = job_id
        """Whose end it waits for."""

    async def submit(self, spec: JobSpec) -> None:
        """Store the job, unless its key is another's, which is waited for then."""
        (job,) = await self._service.accept((spec,), new_id=lambda: self._new_id)
        self.job_id = job.id

    async def result(self) -> JobResult:
        """Return how the job ended."""
        job_id = self.job_id
        if job_id != self._new_id:
            return await self._service.wait(job_id)
        await self._waiter.wait()
        job = await self._service.reading.wait_as(self._waiter, job_id)
        return await self._service.reading.result(job, self._waiter.printed)


class Service:
    """Carries out the calls of users on one host. Each may raise what `Gate.check_*` raise."""

    def __init__(self, host: Host, *, max_pending: int | None) -> None:
        self.reading: Reading = Reading(host)
        self._host = host
        self._max_pending = max_pending
        self._accepted = 0

    # Writing; Ctrl-C does not come between a change and what follows from it

    async def accept(
        self,
        specs: Iterable[JobSpec],
        *,
        retried_from: JobId | None = None,
        new_id: Callable[[], JobId] | None = None,
    ) -> tuple[Job, ...]:
        """Store new jobs, all or none, and have them dispatched; `new_id` names each.

        Raises:
            KeyConflictError, QueueFullError: nothing was stored.
        """
        self._host.gate.check_open()
        specs = tuple(specs)
        self._accepted += len(specs)
        if self._accepted >= _ACCEPTED_A_TURN:
            self._accepted = 0
            await anyio.sleep(0)  # a loop over `submit` lets others have their turn
            self._host.gate.check_open()
        now = self._host.clock.now()
        new_id = new_id or self._host.ids.job_id
        submissions = tuple(
            Submission(id=new_id(), spec=spec, at=now, retried_from=retried_from) for spec in specs
        )
        return await deferring_ctrl_c(lambda: self._accept(submissions))()

    async def _accept(self, submissions: tuple[Submission, ...]) -> tuple[Job, ...]:
        dispatcher = self._host.dispatcher
        submissions = dispatcher.announce(submissions)
        try:
            outcome = await self._ask(Accept(submissions, max_pending=self._max_pending))
        except BaseException as error:
            gone = isinstance(error, StoreInvalidError) and error.gone
            dispatcher.unanswered(submissions, refused=gone)
            raise
        dispatcher.accepted(submissions, outcome)
        return outcome.jobs

    async def retry(self, job_id: JobId) -> Job:
        """Store the spec of a final job anew.

        Raises:
            JobNotFinalError: it has not ended.
        """
        self._host.gate.check_open()
        job = await self.reading.job(job_id)
        if not job.state.is_final:
            msg = f"job {job_id} is {job.state.name}: only a job that has ended can be retried"
            raise JobNotFinalError(msg, job_id=job_id)
        (new,) = await self.accept((job.spec,), retried_from=job_id)
        return new

    async def cancel(self, job_id: JobId, reason: str | None) -> JobResult:
        """End a job; return how it ended."""
        await self.reading.job(job_id)
        await self._request_cancel((job_id,), reason)
        return await self.wait(job_id)

    async def abandon(self, job_id: JobId, reason: str) -> None:
        """End a job that nobody waits for any more, also where its store refuses for a while."""
        while True:
            try:
                await self.cancel(job_id, reason)
            except (StoreBusyError, StoreFullError):
                self._host.dispatcher.stop_here(job_id, reason)
                await anyio.sleep(_ABANDON_SECONDS)
            except StoreInvalidError:
                self._host.dispatcher.stop_here(job_id, reason)
                return
            except HodeiError:  # it was never stored, or this host has closed
                return
            else:
                return

    async def cancel_matching(self, matching: JobFilter, reason: str | None) -> int:
        """End the jobs that match and are not final; return how many ended CANCELLED."""
        self._host.gate.check_readable()
        jobs = await self._host.store.jobs.select(matching, limit=None)
        ids = tuple(job.id for job in jobs if not job.state.is_final)
        with ExitStack() as stack:
            # All at once: a store that keeps few jobs may drop the first before the last has ended.
            waiters = [stack.enter_context(self._host.waiters.of(job_id)) for job_id in ids]
            await self._request_cancel(ids, reason)
            ended = [
                await self.reading.wait_as(waiter, job_id)
                for waiter, job_id in zip(waiters, ids, strict=True)
            ]
        return sum(job.state is JobState.CANCELLED for job in ended)

    async def _request_cancel(self, ids: tuple[JobId, ...], reason: str | None) -> None:
        change = RequestCancel(ids, CancelRequest(at=self._host.clock.now(), reason=reason))

        async def request() -> None:
            outcome = await self._ask(change)
            for job in outcome.jobs:
                if not job.state.is_final:
                    self._host.dispatcher.cancel(job.id, reason)

        await deferring_ctrl_c(request)()

    async def prune(self, before: datetime) -> int:
        """Delete jobs that ended before an instant; return how many."""

        async def ask(change: Change) -> Outcome:
            self._host.gate.check_readable()
            return await deferring_ctrl_c(lambda: self._ask(change))()

        return await in_slices(ask, Prune(before, limit=SLICE_JOBS))

    async def _ask(self, change: Change) -> Outcome:
        try:
            (outcome,) = await self._host.store.apply([change])
        except BaseException:
            # Refused or cancelled, the change may be stored all the same: then it is followed.
            self._host.dispatcher.look_at_all()
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome

    # Waiting

    async def wait(self, job_id: JobId) -> JobResult:
        """Return how a job ended, once it has."""
        with self._host.waiters.of(job_id) as waiter:
            job = await self.reading.wait_as(waiter, job_id)
            return await self.reading.result(job, waiter.printed)

    @contextmanager
    def waiting_for_a_new_one(self) -> Iterator[NewWait]:
        """Give one who waits for a job that is not stored yet, so that no end of it is missed."""
        job_id = self._host.ids.job_id()
        with self._host.waiters.of(job_id) as waiter:
            yield NewWait(self, waiter, job_id)

    async def join(self) -> None:
        """Return when every job of the store is final."""

        async def all_ended() -> bool:
            return not self._host.dispatcher.running and await nothing_left(self._host.store)

        await self._until(all_ended)

    async def drain(self) -> None:
        """Assign no more; return when nothing of this host runs."""
        self._host.gate.check_readable()
        self._host.dispatcher.draining = True

        async def nothing_runs() -> bool:
            return not self._host.dispatcher.running

        await self._until(nothing_runs)

    async def _until(self, met: Callable[[], Awaitable[bool]]) -> None:
        async def checked() -> bool:
            self._host.gate.check_readable()
            return await met()

        await self._host.dispatcher.until(checked)

    # Reading

    def logs(
        self,
        job_id: JobId,
        *,
        after: int,
        tail: int | None,
        follow: bool,
        source: LogSource | None,
    ) -> LogStream:
        """Return a reader of a job's log."""
        return LogStream(self.reading, job_id, after=after, tail=tail, follow=follow, source=source)

    async def explain(self, job_id: JobId) -> Explanation:
        """Return why a job is where it is."""
        return await self.reading.explain(await self.reading.job(job_id))

    async def explain_text(self, job: Job) -> str:
        """Return the same in words, of a job as it was read, at a cost that no queue adds to."""
        return str(await self.reading.explain(job, counted=False))
