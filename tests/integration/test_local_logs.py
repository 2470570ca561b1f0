"""Floods, long lines and many readers of real output."""

from __future__ import annotations

import gc
import hashlib
import resource

import anyio
import pytest

from hodei_core import Hodei, LogEntry, LogSource
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.memory import MemoryStore

LIMIT = 60.0
MIB = 1024 * 1024


async def test_a_flood_leaves_memory_and_the_loop_alone() -> None:
    """The catalogue's E9: 200 MB; what a memory store cannot hold is told by an exact count."""
    lines = 2_000_000
    line = b"x" * 99 + b"\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with anyio.fail_after(LIMIT):
        store = MemoryStore(log_bytes=16 * MIB)
        async with Hodei(store, providers=[LocalProvider(slots=1)]) as hodei:
            job = await hodei.submit(f"yes {line[:-1].decode()} | head -n {lines}")
            result = await job.wait()
            assert result.ok
            counted = lost = last = 0
            async for batch in job.logs().batches():
                for entry in batch:
                    lost += entry.lost
                    counted += not entry.lost
                    last = entry.seq
                    if not entry.lost:
                        assert entry.data == line
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert last == lines
    assert counted + lost == lines
    assert lost > lines // 2
    assert grown * 1024 < 100 * MIB


async def test_a_slow_reader_holds_nobody_and_is_told_what_it_missed() -> None:
    """The ancestor's slow reader blocked all."""
    with anyio.fail_after(LIMIT):
        store = MemoryStore(log_bytes=4 * MIB)
        async with Hodei(store, providers=[LocalProvider(slots=1)]) as hodei:
            job = await hodei.submit("seq 1000000")
            slow = job.logs()
            first = await slow.__anext__()
            assert first.data == b"1\n"
            assert (await job.wait()).ok
            rest = [entry async for entry in slow]
    gaps = [entry for entry in rest if entry.lost]
    assert len(gaps) == 1
    (gap,) = gaps
    assert gap.source is LogSource.SYSTEM
    before = [entry for entry in rest if entry.seq < gap.seq]
    assert gap.lost == gap.seq - (before[-1].seq if before else first.seq)
    after = rest[rest.index(gap) + 1 :]
    assert [entry.seq for entry in after] == list(range(gap.seq + 1, 1_000_001))
    assert after[0].data == b"%d\n" % (gap.seq + 1)


async def test_a_long_line_comes_in_pieces_that_rejoin_exactly() -> None:
    """The catalogue's E10: 10 MiB without a newline."""
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit("head -c 10485760 /dev/zero | tr '\\0' x")
            entries = [entry async for entry in job.logs()]
    assert len(entries) == 160
    assert [entry.partial for entry in entries] == [True] * 159 + [False]
    assert b"".join(entry.data for entry in entries) == b"x" * 10 * MIB


async def test_bytes_of_every_kind_are_kept_exactly() -> None:
    """The catalogue's E11."""
    raw = bytes(range(256)) * 64 + "é\u2028\x1b[31m\r\n".encode() + b"\xff\n\n\xc3"
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit(["cat"], stdin=raw)
            await job.wait()
            assert await job.output() == raw
            data = b"".join([entry.data async for entry in job.logs()])
    assert hashlib.sha256(data).digest() == hashlib.sha256(raw).digest()


async def test_the_order_within_a_stream_is_exact() -> None:
    """The catalogue's E15."""
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit(
                "for i in $(seq 2000); do echo o$i; echo e$i >&2; done", shell=("sh", "-c")
            )
            entries = [entry async for entry in job.logs()]
    for source, letter in ((LogSource.STDOUT, "o"), (LogSource.STDERR, "e")):
        texts = [entry.text for entry in entries if entry.source is source]
        assert texts == [f"{letter}{i}" for i in range(1, 2001)]
    assert [entry.seq for entry in entries] == list(range(1, 4001))


async def test_readers_join_at_any_time_and_see_the_same() -> None:
    """The ancestor's history came twice, and late readers hung."""
    seen: dict[int, list[LogEntry]] = {}
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit("for i in $(seq 20); do echo $i; sleep 0.01; done")

            async def read(number: int) -> None:
                seen[number] = [entry async for entry in job.logs()]

            async with anyio.create_task_group() as tasks:
                async for entry in job.logs():
                    tasks.start_soon(read, entry.seq)
            tasks_after = [entry async for entry in job.logs()]
    assert len(seen) == 20
    assert all(entries == tasks_after for entries in seen.values())
    assert [entry.text for entry in tasks_after] == [str(i) for i in range(1, 21)]


async def test_a_reader_resumes_and_tails() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit("seq 100; seq 5 >&2")
            await job.wait()
            rest = [e.seq async for e in job.logs(after=60)]
            assert rest == list(range(61, 106))
            tail = [e.text async for e in job.logs(tail=3, source=LogSource.STDOUT)]
            assert tail == ["98", "99", "100"]
            assert [e async for e in job.logs(tail=0)] == []
            assert len([e async for e in job.logs(tail=1000)]) == 105
            with pytest.raises(ValueError, match="exclude"):
                job.logs(after=1, tail=1)
            with pytest.raises(ValueError, match="after"):
                job.logs(after=-1)


async def test_leaving_a_reader_anywhere_leaves_nothing_behind() -> None:
    """The catalogue's E13."""
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit("seq 100; exec sleep 300")
            async for entry in job.logs():
                if entry.seq == 100:
                    break
            tasks = len(anyio.get_running_tasks())
            for _ in range(1000):
                async for _entry in job.logs():
                    break
            with anyio.move_on_after(0.01):
                async for _entry in job.logs(after=100):
                    pass
            gc.collect()
            assert len(anyio.get_running_tasks()) == tasks
            await job.cancel()


async def test_zero_output_and_instant_exits_lose_nothing() -> None:
    """The catalogue's E19."""
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            jobs = await hodei.submit_many([["true"]] * 300)
            for job in jobs:
                assert [entry async for entry in job.logs()] == []
                assert (await job.wait()).exit_code == 0


async def test_nothing_is_lost_of_a_hundred_short_jobs_that_print() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[LocalProvider(slots=8)]) as hodei:
            jobs = [await hodei.submit(["echo", str(i)]) for i in range(200)]
            for i, job in enumerate(jobs):
                assert (await job.wait()).stdout == f"{i}\n"
