"""What is read of jobs: values as shown, logs, output, results, explanations."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from hodei_core.compat import override
from hodei_core.errors import (
    HodeiClosedError,
    JobNotFoundError,
    OutputLostError,
    OutputTooLargeError,
)
from hodei_core.explanations import Explanation
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogSegment, LogSource
from hodei_core.ports import LogBounds, Needs
from hodei_core.results import TEXT_BYTES, JobResult, make_result
from hodei_core.runtime.elsewhere import offers_elsewhere, workers_elsewhere
from hodei_core.runtime.explain import Situation, WorkerNote, explain
from hodei_core.runtime.host import Host
from hodei_core.runtime.log_buffer import LogBuffer
from hodei_core.runtime.log_stream import LogReader
from hodei_core.runtime.waiters import Printed, Waiter
from hodei_core.states import JobState, WaitingFor

OUTPUT_BYTES = 8 * 1024 * 1024
"""The most that `output` returns."""

_READ_BYTES = 1024 * 1024


class Reading(LogReader):
    """The reading side of a host: the store, and what is not in it yet."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._store = host.store

    async def job(self, job_id: JobId) -> Job:
        """Return a job as it is now, with what it waits for.

        Raises:
            JobNotFoundError: it is unknown.
        """
        return self.shown(await self._stored(job_id))

    async def _stored(self, job_id: JobId) -> Job:
        self._host.gate.check_readable()
        job = await self._store.jobs.get(job_id)
        if job is None:
            msg = f"no job {job_id!r}"
            raise JobNotFoundError(msg, job_id=job_id)
        return job

    def shown(self, job: Job) -> Job:
        """Return a stored job with what it waits for according to this host."""
        if job.waiting_for is not WaitingFor.CAPACITY:
            return job
        dispatcher = self._host.dispatcher
        if dispatcher.draining and self._host.dispatching:
            return attrs.evolve(job, waiting_for=WaitingFor.DRAIN)
        wait = dispatcher.waits_for(Needs.of(job.spec))
        if wait is None or wait.waiting_for is WaitingFor.CAPACITY:
            return job
        return attrs.evolve(job, waiting_for=wait.waiting_for)

    async def wait(self, job_id: JobId) -> Job:
        """Return a job when it is final.

        Raises:
            JobNotFoundError, HodeiClosedError, HodeiBrokenError
        """
        with self._host.waiters.of(job_id) as waiter:
            return await self.wait_as(waiter, job_id)

    async def wait_as(self, waiter: Waiter, job_id: JobId) -> Job:
        """Return a job when it is final, as one who is known to wait for it already.

        What became final since then is returned though its store may have dropped it.
        """
        while waiter.job is None:
            job = await self._stored(job_id)
            if job.state.is_final:
                return job
            if self._host.gate.closed:
                msg = f"this Hodei closed while job {job_id} was {job.state.name}"
                raise HodeiClosedError(msg)
            await waiter.wait()
        return waiter.job

    async def result(self, job: Job, printed: Printed = None) -> JobResult:
        """Return the result of a final job, with the last of its output.

        `printed`: all of its output, if that is at hand.
        """
        if printed is not None:
            return _result_of(job, printed)
        bounds = await self.bounds(job.id)
        if not bounds.last or not job.attempts:
            return make_result(job, stdout="", stderr="", truncated=False)
        tails = {LogSource.STDOUT: _Tail(), LogSource.STDERR: _Tail()}
        number = job.attempts[-1].number
        before = bounds.last + 1
        whole = torn = False
        segments: list[LogSegment] = []
        while not all(tail.full for tail in tails.values()) and not whole:
            segments = await self.read_back(job.id, before)
            for segment in segments:
                before = segment.first_seq
                if segment.attempt != number:
                    whole = True
                    break
                if segment.source is LogSource.SYSTEM:
                    torn = True
                    continue
                tails[segment.source].prepend(segment.data)
            whole = whole or not segments or before <= 1
        if not segments and before > bounds.lost + 1:  # more was deleted since
            bounds = await self.bounds(job.id)
        lost = bounds.lost > 0 and bounds.lost_attempt == number
        return make_result(
            job,
            stdout=tails[LogSource.STDOUT].text(),
            stderr=tails[LogSource.STDERR].text(),
            truncated=lost or torn or any(tail.cut for tail in tails.values()),
        )

    async def output(self, job_id: JobId, source: LogSource | None, attempt: int | None) -> bytes:
        """Return the bytes that an attempt has printed so far.

        Raises:
            ValueError: there is no such attempt.
            OutputTooLargeError: more than 8 MiB.
            OutputLostError: a part is no longer stored.
        """
        job = await self.job(job_id)
        known = range(1, len(job.attempts) + 1)
        if attempt is not None and attempt not in known:
            msg = f"attempt must be one of the {len(job.attempts)} there were, not {attempt!r}"
            raise ValueError(msg)
        if not job.attempts:
            return b""
        number = attempt or len(job.attempts)
        parts: list[bytes] = []
        size = 0
        cursor = 0
        while True:
            bounds = await self.bounds(job_id)
            if cursor < bounds.lost and number <= bounds.lost_attempt:
                msg = f"entries up to {bounds.lost} of job {job_id} are no longer stored"
                raise OutputLostError(msg, job_id=job_id, lost=bounds.lost - cursor)
            cursor = max(cursor, bounds.lost)
            segments = await self._next(job_id, cursor)
            if _jumps(segments, cursor, bounds) and await self.bounds(job_id) != bounds:
                continue  # more was deleted since
            for segment in segments:
                if segment.attempt == number and segment.source is LogSource.SYSTEM:
                    msg = f"the end of the output of job {job_id} may be missing: read its logs()"
                    raise OutputLostError(msg, job_id=job_id, lost=segment.count)
                if segment.attempt == number and source in (None, segment.source):
                    parts.append(segment.data)
                    size += len(segment.data)
            if size > OUTPUT_BYTES:
                msg = f"the output of job {job_id} is over {OUTPUT_BYTES} bytes: read its logs()"
                raise OutputTooLargeError(msg, job_id=job_id, limit_bytes=OUTPUT_BYTES)
            if not segments or segments[-1].attempt > number:
                return b"".join(parts)
            cursor = segments[-1].last_seq

    async def _next(self, job_id: JobId, after: int) -> list[LogSegment]:
        """Return what follows a number, from the buffer if it is there, else stored."""
        buffer = self.buffer(job_id)
        if buffer is not None and after >= buffer.first - 1:
            return buffer.read(after, _READ_BYTES)
        return await self.read(job_id, after)

    # LogReader

    @override
    def buffer(self, job_id: JobId) -> LogBuffer | None:
        return self._host.dispatcher.log_under_way(job_id)

    @override
    async def follow(self, job_id: JobId) -> LogBuffer | None:
        bounds = await self.bounds(job_id)
        # Before the job is read, so that its end closes the buffer; a host that is gone would not.
        gone = self._host.gate.closed
        buffer = None if gone else self._host.logs.open(job_id, last=bounds.last)
        job = await self.job(job_id)
        if job.state.is_final:
            self._host.logs.close(job_id)
            return None
        if self._host.gate.closed:
            msg = f"this Hodei closed while job {job_id} was {job.state.name}"
            raise HodeiClosedError(msg)
        return buffer

    @override
    async def bounds(self, job_id: JobId) -> LogBounds:
        return await self._store.logs.bounds(job_id)

    @override
    async def read(self, job_id: JobId, after: int) -> list[LogSegment]:
        return await self._store.logs.read(job_id, after=after, max_bytes=_READ_BYTES)

    @override
    async def read_back(self, job_id: JobId, before: int) -> list[LogSegment]:
        return await self._store.logs.read_back(job_id, before=before, max_bytes=_READ_BYTES)

    # Explanations

    async def explain(self, job: Job, *, counted: bool = True) -> Explanation:
        """Return why a job is where it is; `counted`: with its position, which costs a count."""
        host = self._host
        if job.state is not JobState.PENDING:
            loss = None if job.state.is_final else await self._loss_of(job)
            return explain(Situation(job=job, now=host.clock.now(), loss=loss))
        rows = {worker.id: worker for worker in await self._store.workers.select()}
        mine = {member.id for member in host.fleet.members()}
        kept = host.dispatcher.kept_for()
        index = host.fleet.index
        notes = tuple(
            WorkerNote(
                id=member.id,
                offer=member.offer,
                state=member.state,
                begun_at=member.begun_at,
                room=index.get(member.id),
                jobs=rows[member.id].jobs if member.id in rows else (),
                kept_for=kept[member.id].id if member.id in kept else None,
                loss=member.loss,
            )
            for member in host.fleet.members()
        )
        return explain(
            Situation(
                job=job,
                now=host.clock.now(),
                log=host.dispatcher.waits_of(Needs.of(job.spec)),
                position=await self._store.queue.position(job.id) if counted else None,
                workers=notes + await workers_elsewhere(self._store, mine),
                elsewhere=await offers_elsewhere(self._store, host.fleet.host_id),
                providers=tuple(host.fleet.view.providers()),
                draining=host.dispatcher.draining,
                dispatching=host.dispatching,
            )
        )

    async def _loss_of(self, job: Job) -> str | None:
        """Return how the worker was lost that a job runs on; None if it was not."""
        attempt, hosts = job.attempt, self._store.hosts
        loss = self._host.loss_of(attempt.worker_id)
        if loss is None and hosts is not None and attempt.host_id in await hosts.dead():
            return "its host is dead"
        return loss


def _jumps(segments: Sequence[LogSegment], after: int, bounds: LogBounds) -> bool:
    """Return whether entries that should follow a number are missing."""
    if segments:
        return segments[0].first_seq > after + 1
    return after < bounds.last


def _result_of(job: Job, printed: Sequence[LogSegment]) -> JobResult:
    """Return the result of a job that printed this and nothing else."""
    tails = {LogSource.STDOUT: _Tail(), LogSource.STDERR: _Tail()}
    for segment in reversed(printed):
        tails[segment.source].prepend(segment.data)
    return make_result(
        job,
        stdout=tails[LogSource.STDOUT].text(),
        stderr=tails[LogSource.STDERR].text(),
        truncated=any(tail.cut for tail in tails.values()),
    )


class _Tail:
    """The end of a stream, put together from the back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.cut = False

    @property
    def full(self) -> bool:
        return self._size >= TEXT_BYTES

    def prepend(self, data: bytes) -> None:
        if self.full:
            self.cut = self.cut or bool(data)
            return
        room = TEXT_BYTES - self._size
        if len(data) > room:
            self.cut = True
            data = data[-room:]
        self._parts.append(data)
        self._size += len(data)

    def text(self) -> str:
        return b"".join(reversed(self._parts)).decode("utf-8", "replace")
