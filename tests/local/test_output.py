"""Output in bulk: the pipe pushes back, nothing is lost, the event loop stays free."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from hodei_core.logs import LogSource
from tests.local.helpers import PYTHON, Recorder, execution, local, started

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


class Sink(Recorder):
    """Keeps only counts and a digest; full after every `limit` bytes, empty when asked."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.size = 0
        self.unread = 0
        self.most_unread = 0
        self.digest = hashlib.sha256()

    def feed(self, source: LogSource, data: bytes) -> bool:
        self.size += len(data)
        self.unread += len(data)
        self.most_unread = max(self.most_unread, self.unread)
        self.digest.update(data)
        return self.unread < self.limit

    async def ready(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.unread = 0


async def test_a_hundred_megabytes_pass_a_full_buffer_without_loss() -> None:
    size = 100 * 1000 * 1000
    async with local() as here:
        for limit in (1, 8 * MIB):
            output = Sink(limit)
            end = await here.session.execute(
                execution(["head", "-c", str(size), "/dev/zero"]), output
            )
            assert end.code == 0
            assert output.size == size
            assert output.digest.digest() == hashlib.sha256(bytes(size)).digest()
            assert output.most_unread < limit + 64 * 1024 + 1


async def test_a_full_buffer_stops_the_job_until_there_is_room() -> None:
    script = (
        "import os, sys\n"
        "os.write(1, b'x' * 10)\n"
        "for i in range(64): os.write(1, b'y' * 65536); os.write(2, b'.')"
    )
    async with local() as here:
        output = Recorder(limit=10)

        async def run() -> None:
            end = await here.session.execute(execution([PYTHON, "-c", script]), output)
            assert end.code == 0

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with anyio.fail_after(20):
                await output.called("ready")
                fed = len(output.stdout) + len(output.stderr)
                for _ in range(20):  # others work on meanwhile, nothing is read for this one
                    await here.run("echo x")
                assert len(output.stdout) + len(output.stderr) == fed < 2 * 65536 + 10
                output.make_room(100 * MIB)
    assert len(output.stdout) == 10 + 64 * 65536
    assert len(output.stderr) == 64


async def test_a_full_buffer_does_not_hold_the_outcome() -> None:
    async with local() as here:
        output = Recorder(limit=1)
        began = time.monotonic()
        job = execution("echo full; sleep 0.1; head -c 60000 /dev/zero; exit 3")
        end = await here.session.execute(job, output)
        assert end.code == 3
        assert len(output.stdout) == 60005
        assert time.monotonic() - began < 4


async def test_a_job_with_a_full_buffer_can_be_cancelled() -> None:
    async with local() as here, started(here, "yes; true", grace=0.5) as job:
        job.output.room = 1000
        await job.output.called("ready")
        end = await job.cancelled()
        assert end.code == 143
        assert set(job.output.stdout) == set(b"y\n")


async def test_a_flood_on_both_streams_leaves_the_loop_to_others() -> None:
    async with local() as here, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(here.session.execute, execution("yes & yes >&2"), Sink(8 * MIB))
        slowest = 0.0
        for _ in range(20):
            end, _ = await here.run("true")
            assert end.code == 0
        for _ in range(1000):
            before = time.perf_counter()
            await anyio.lowlevel.checkpoint()
            slowest = max(slowest, time.perf_counter() - before)
        tasks.cancel_scope.cancel()
    assert slowest < 0.5  # generous: this is no timed test; a starved loop would take for ever


async def test_the_resident_memory_stays_flat_under_a_flood() -> None:
    async with local() as here:
        size = 300 * MIB
        before = _resident()
        output = Sink(8 * MIB)
        await here.session.execute(execution(["head", "-c", str(size), "/dev/zero"]), output)
        assert output.size == size
        assert _resident() - before < 30 * MIB


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


async def test_a_line_of_ten_megabytes_without_a_newline_arrives_whole() -> None:
    async with local() as here:
        end, output = await here.run("head -c 10485760 /dev/zero | tr '\\0' x")
    assert end.code == 0
    assert output.stdout == b"x" * 10 * MIB
