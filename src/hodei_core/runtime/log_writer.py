"""Writes what jobs print to the store, in batches."""

from __future__ import annotations

import logging
from collections.abc import Container

import anyio

from hodei_core.errors import HodeiError
from hodei_core.ids import JobId
from hodei_core.ports import AppendLogs, Store
from hodei_core.runtime.deadlines import Deadlines
from hodei_core.runtime.log_buffer import COMMIT_BYTES, LogBuffer

logger: logging.Logger = logging.getLogger(__name__)

_DELAY = 0.25  # seconds that output may stay unwritten
_RETRY = 0.5  # seconds after which a store that refused is asked again


class LogWriter:
    """Holds the buffers of the jobs that run or are read, and writes them to the store."""

    def __init__(self, store: Store, deadlines: Deadlines) -> None:
        self._store = store
        self._deadlines = deadlines
        self._buffers: dict[JobId, LogBuffer] = {}
        self._dirty: dict[JobId, LogBuffer] = {}
        self._armed = False
        self._wake = anyio.Event()
        self._wrote = anyio.Event()
        self._over = False

    def get(self, job_id: JobId) -> LogBuffer | None:
        """Return the buffer of a job, if it has one."""
        return self._buffers.get(job_id)

    def open(self, job_id: JobId, *, last: int = 0) -> LogBuffer:
        """Return the buffer of a job, made if there is none; its log has `last` entries yet."""
        buffer = self._buffers.get(job_id)
        if buffer is None:
            buffer = self._buffers[job_id] = LogBuffer(job_id, last=last, touched=self._touch)
        return buffer

    def close(self, job_id: JobId) -> None:
        """Let go of the buffer of a job that is final and all written."""
        buffer = self._buffers.pop(job_id, None)
        self._dirty.pop(job_id, None)
        if buffer is not None:
            buffer.close()

    def forsake(self, buffer: LogBuffer) -> None:
        """Let go of a buffer whose attempt is another host's affair: the store took no more of it.

        Numbers that it gave are given again, to what follows in the store.
        """
        if self._buffers.get(buffer.job_id) is buffer:
            del self._buffers[buffer.job_id]
        buffer.close()

    def refresh(self, running: Container[JobId]) -> None:
        """Have the readers of jobs that do not run here look at the store again."""
        for job_id, buffer in list(self._buffers.items()):
            if job_id not in running:
                self.forsake(buffer)

    def close_all(self) -> None:
        """Let go of every buffer."""
        for job_id in list(self._buffers):
            self.close(job_id)

    def _touch(self, buffer: LogBuffer) -> None:
        self._dirty[buffer.job_id] = buffer
        if buffer.unwritten_bytes >= COMMIT_BYTES:
            self._wake.set()
        elif not self._armed:
            self._armed = True
            self._deadlines.after(_DELAY, self._due)

    def _due(self) -> None:
        self._armed = False
        self._wake.set()

    async def run(self) -> None:
        """Write what is there, for ever."""
        self._over = False
        try:
            await self._run()
        finally:
            self._over = True  # nobody waits for a writer that is gone
            self._wrote.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._dirty:
                job_id, buffer = next(iter(self._dirty.items()))
                del self._dirty[job_id]
                await self._write(buffer)
                await anyio.sleep(0)

    async def settle(self, buffer: LogBuffer) -> None:
        """Return when no commit of this buffer is under way and one more holds the rest.

        That one is the end of its attempt: it is handed over, and not written here any more.
        """
        while not self._over and (buffer.writing or buffer.unwritten_bytes > COMMIT_BYTES):
            self._dirty[buffer.job_id] = buffer
            self._wake.set()
            await self._wrote.wait()
        buffer.handed_over = True

    async def _write(self, buffer: LogBuffer) -> None:
        segments = buffer.unwritten()
        if not segments or buffer.writing or buffer.handed_over:
            return
        buffer.writing = True
        try:
            with anyio.CancelScope(shield=True):
                (outcome,) = await self._store.apply([AppendLogs(buffer.job_id, segments)])
                buffer.wrote(len(segments))
                if not outcome.applied:
                    self.forsake(buffer)
        except HodeiError as error:
            logger.warning("logs not written yet: %s", error, extra={"job_id": buffer.job_id})
            buffer.writing = False
            await anyio.sleep(_RETRY)
        if buffer.unwritten_bytes:
            self._dirty[buffer.job_id] = buffer
        self._wrote.set()
        self._wrote = anyio.Event()
