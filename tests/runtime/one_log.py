"""The log of one job, its buffer and its store, with nothing else of a host around it."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio.lowlevel
from typing_extensions import override

from hodei_core.backends.memory import MemoryStore
from hodei_core.errors import JobNotFoundError
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogEntry, LogSegment, LogSource
from hodei_core.ports import AppendLogs, LogBounds
from hodei_core.runtime.log_buffer import LogBuffer
from hodei_core.runtime.log_stream import LogReader, LogStream
from hodei_core.testing.contracts.driver import HOST, StoreDriver
from hodei_core.testing.contracts.samples import at

OUT, ERR, SYSTEM = LogSource.STDOUT, LogSource.STDERR, LogSource.SYSTEM
_READ_BYTES = 1024 * 1024


class OneLog(LogReader):
    """A running job that prints what it is told to; made by `opened`."""

    def __init__(self, store: MemoryStore, job: Job) -> None:
        self.store = store
        self._driver = StoreDriver(store)
        self._job = job
        self.live: LogBuffer | None = None
        self.store_reads = 0
        """How often the store was read."""

        self.broken: Exception | None = None
        """What `follow` raises, if it does."""

        self.now: datetime = at(10)

    @classmethod
    async def opened(cls, *, log_bytes: int = 256 * 1024 * 1024) -> OneLog:
        """Store a running job whose log may take so many bytes."""
        store = MemoryStore(log_bytes=log_bytes)
        await store.open(HOST)
        driver = StoreDriver(store)
        await driver.add_worker()
        return cls(store, await driver.start(await driver.add("job")))

    @property
    def id(self) -> JobId:
        return self._job.id

    def stream(
        self,
        *,
        after: int = 0,
        tail: int | None = None,
        follow: bool = True,
        source: LogSource | None = None,
    ) -> LogStream:
        return LogStream(self, self.id, after=after, tail=tail, follow=follow, source=source)

    # What the job does

    def _opened_buffer(self) -> LogBuffer:
        if self.live is None:
            self.live = LogBuffer(self.id, last=0, touched=lambda buffer: None)
            self.live.begin(self._job.attempt.number)
        return self.live

    def print(self, data: bytes, source: LogSource = OUT) -> None:
        self.now += timedelta(seconds=1)
        self._opened_buffer().feed(source, data, self.now)

    def print_lines(self, count: int, source: LogSource = OUT) -> None:
        """Print numbered lines, each as a segment of its own."""
        for _ in range(count):
            number = self._opened_buffer().last + 1
            self.print(b"line %d\n" % number, source)

    async def write(self) -> None:
        """Write to the store what is not in it."""
        buffer = self._opened_buffer()
        while segments := buffer.unwritten():
            await self.store.apply([AppendLogs(self.id, segments)])
            buffer.wrote(len(segments))

    async def next_attempt(self) -> None:
        """Fail the attempt and begin another."""
        buffer = self._opened_buffer()
        back = await self._driver.retry(self._job, due=9)
        await self._driver.mark_due(9)
        self._job = await self._driver.start(back.due())
        buffer.begin(self._job.attempt.number)

    async def end(self) -> None:
        """Finish the job: all is written, then it is final, then its buffer goes."""
        buffer = self._opened_buffer()
        for source in (OUT, ERR):
            buffer.finish(source, self.now)
        await self.write()
        self._job = await self._driver.finish(self._job)
        self.live = None
        buffer.close()

    # LogReader

    @override
    def buffer(self, job_id: JobId) -> LogBuffer | None:
        return self.live

    @override
    async def follow(self, job_id: JobId) -> LogBuffer | None:
        if self.broken is not None:
            raise self.broken
        if (await self.job(job_id)).state.is_final:
            return None
        return self._opened_buffer()

    @override
    async def job(self, job_id: JobId) -> Job:
        job = await self.store.jobs.get(job_id)
        if job is None:
            msg = f"no job {job_id!r}"
            raise JobNotFoundError(msg, job_id=job_id)
        return job

    @override
    async def bounds(self, job_id: JobId) -> LogBounds:
        return await self.store.logs.bounds(job_id)

    @override
    async def read(self, job_id: JobId, after: int) -> list[LogSegment]:
        self.store_reads += 1
        return await self.store.logs.read(job_id, after=after, max_bytes=_READ_BYTES)

    @override
    async def read_back(self, job_id: JobId, before: int) -> list[LogSegment]:
        self.store_reads += 1
        return await self.store.logs.read_back(job_id, before=before, max_bytes=_READ_BYTES)


async def collect(stream: LogStream) -> list[LogEntry]:
    """Read a stream to its end."""
    return [entry async for entry in stream]


async def numbers(stream: LogStream) -> list[int]:
    """Return the numbers of a stream's entries, read to its end."""
    return [entry.seq for entry in await collect(stream)]


async def read(stream: LogStream, count: int) -> list[LogEntry]:
    """Return the next entries of a stream that goes on."""
    return [await stream.__anext__() for _ in range(count)]


async def turns(count: int = 30) -> None:
    """Let every other task have so many turns: enough for all that follows to happen."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()
