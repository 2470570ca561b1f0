from __future__ import annotations

import gc
import random
import weakref
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from hodei_core import Hodei
from hodei_core.backends.memory import MemoryStore
from hodei_core.errors import HodeiBrokenError, JobNotFoundError
from hodei_core.executions import Execution, Exit
from hodei_core.ids import JobId, WorkerId
from hodei_core.logs import LogEntry
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import (
    AttemptOutput,
    ProviderHost,
    Prune,
    WorkerLostError,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.runtime.log_buffer import BUFFER_BYTES, LogBuffer
from hodei_core.runtime.log_stream import BATCH_BYTES, BATCH_ENTRIES, LogStream
from hodei_core.states import Reason
from hodei_core.testing.contracts.samples import at
from hodei_core.workers import Offer
from tests.runtime.one_log import ERR, OUT, SYSTEM, OneLog, collect, numbers, read, turns

LIMIT = 20.0


@pytest.fixture(autouse=True)
async def limited() -> AsyncIterator[None]:
    """Let no test of a stream wait for ever."""
    with anyio.fail_after(LIMIT):
        yield


async def ended(*, lines: int = 10) -> OneLog:
    """Return the log of a job that printed lines and ended."""
    log = await OneLog.opened()
    log.print_lines(lines)
    await log.end()
    return log


async def beyond_the_buffer() -> OneLog:
    """Return a log of which the buffer holds the end alone, and the store everything."""
    log = await OneLog.opened()
    line = b"x" * 1023 + b"\n"
    while log.live is None or log.live.first == 1:
        log.print(line * 200)
        await log.write()
    assert log.live.last * len(line) > BUFFER_BYTES
    return log


# after


async def test_a_stream_gives_every_entry_in_order() -> None:
    log = await OneLog.opened()
    log.print(b"one\ntwo\n")
    log.print(b"oops\n", ERR)
    await log.end()
    assert [(e.seq, e.source, e.text) for e in await collect(log.stream())] == [
        (1, OUT, "one"),
        (2, OUT, "two"),
        (3, ERR, "oops"),
    ]


@pytest.mark.parametrize("written", [True, False], ids=["stored", "live"])
async def test_after_a_number_the_exact_rest_follows(written: bool) -> None:
    log = await OneLog.opened()
    for _ in range(5):
        log.print(b"a\nb\nc\n")
    if written:
        await log.end()
    for after in range(17):
        assert await numbers(log.stream(after=after, follow=False)) == list(range(after + 1, 16))


async def test_after_a_number_that_is_still_to_come_the_reader_waits_for_the_next() -> None:
    log = await OneLog.opened()
    log.print_lines(2)
    stream = log.stream(after=5)
    async with anyio.create_task_group() as tasks:
        seen: list[int] = []

        async def follow() -> None:
            seen.extend(await numbers(stream))

        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        log.print(b"3\n4\n5\n6\n7\n")
        await log.end()
    assert seen == [6, 7]


# tail


@pytest.mark.parametrize("written", [True, False], ids=["stored", "live"])
async def test_tail_gives_the_last_entries(written: bool) -> None:
    log = await OneLog.opened()
    for _ in range(4):
        log.print(b"a\nb\nc\n")
    if written:
        await log.end()
    for tail in range(15):
        expected = list(range(max(13 - tail, 1), 13))
        assert await numbers(log.stream(tail=tail, follow=False)) == expected


async def test_tail_counts_the_entries_of_its_source() -> None:
    log = await OneLog.opened()
    for number in range(1, 13):
        log.print(b"line\n", ERR if number % 4 == 0 else OUT)
    assert await numbers(log.stream(tail=2, source=ERR, follow=False)) == [8, 12]
    assert await numbers(log.stream(tail=4, source=OUT, follow=False)) == [7, 9, 10, 11]
    await log.end()
    assert await numbers(log.stream(tail=2, source=ERR)) == [8, 12]


async def test_tail_goes_on_with_what_comes_after_the_call() -> None:
    log = await OneLog.opened()
    log.print_lines(10)
    stream = log.stream(tail=2)
    log.print_lines(3)
    await log.end()
    assert await numbers(stream) == [9, 10, 11, 12, 13]


async def test_tail_of_nothing_gives_what_comes_after_the_call() -> None:
    log = await OneLog.opened()
    log.print_lines(3)
    stream = log.stream(tail=0)
    log.print_lines(2)
    await log.end()
    assert await numbers(stream) == [4, 5]


async def test_tail_reaches_from_the_buffer_into_the_store() -> None:
    log = await beyond_the_buffer()
    assert log.live is not None
    last = log.live.last
    tail = last - log.live.first + 1 + 50
    assert await numbers(log.stream(tail=tail, follow=False)) == list(
        range(last - tail + 1, last + 1)
    )


async def test_tail_and_after_exclude_one_another() -> None:
    log = await ended()
    with pytest.raises(ValueError, match="exclude one another"):
        log.stream(after=1, tail=1)
    assert await numbers(log.stream(after=0, tail=1)) == [10]


@pytest.mark.parametrize(
    "arguments", [{"after": -1}, {"tail": -1}, {"after": 1.5}, {"tail": "3"}], ids=repr
)
async def test_a_number_that_makes_no_sense_is_refused(arguments: dict[str, int]) -> None:
    log = await ended()
    with pytest.raises(ValueError, match="must be a whole number"):
        log.stream(**arguments)  # type: ignore[arg-type]  # what is under test


# follow


async def test_without_follow_a_stream_ends_with_what_is_there_now() -> None:
    log = await OneLog.opened()
    assert await collect(log.stream(follow=False)) == []
    log.print_lines(3)
    stream = log.stream(follow=False)
    log.print_lines(2)
    assert await numbers(stream) == [1, 2, 3]


async def test_without_follow_what_is_not_yet_stored_is_there_too() -> None:
    log = await OneLog.opened()
    log.print_lines(3)
    await log.write()
    log.print_lines(3)
    assert await numbers(log.stream(follow=False)) == [1, 2, 3, 4, 5, 6]


async def test_without_follow_a_batch_stops_within_a_segment_boundary() -> None:
    log = await OneLog.opened()
    log.print(b"a\nb\n")
    stream = log.stream(follow=False, source=OUT)
    log.print(b"c\n")
    log.print(b"d\n", ERR)
    assert [len(batch) async for batch in stream.batches()] == [2]


async def test_a_reader_is_given_entries_as_they_come() -> None:
    log = await OneLog.opened()
    stream = log.stream()
    for number in range(1, 6):
        async with anyio.create_task_group() as tasks:
            entries: list[LogEntry] = []

            async def wait(entries: list[LogEntry] = entries) -> None:
                entries.append(await stream.__anext__())

            tasks.start_soon(wait)
            await turns()
            log.print_lines(1)
        assert [entry.seq for entry in entries] == [number]


async def test_a_stream_ends_when_the_job_is_final_and_all_is_read() -> None:
    log = await OneLog.opened()
    log.print_lines(3)
    stream = log.stream()
    assert len(await read(stream, 3)) == 3
    async with anyio.create_task_group() as tasks:
        rest: list[int] = []

        async def follow() -> None:
            rest.extend(await numbers(stream))

        tasks.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        log.print(b"unfinished")
        await log.end()
    assert rest == [4]
    assert await numbers(stream) == []
    assert await numbers(stream) == []


async def test_a_reader_that_comes_after_the_end_is_given_everything() -> None:
    log = await ended(lines=2_500)
    for _ in range(3):
        assert await numbers(log.stream()) == list(range(1, 2_501))


async def test_a_job_that_printed_nothing_has_an_empty_log() -> None:
    log = await ended(lines=0)
    assert await collect(log.stream()) == []
    assert await collect(log.stream(tail=5)) == []
    assert await collect(log.stream(after=5)) == []


async def test_the_next_attempt_goes_on_in_the_same_stream() -> None:
    log = await OneLog.opened()
    stream = log.stream()
    log.print_lines(2)
    assert len(await read(stream, 2)) == 2
    await log.next_attempt()
    log.print_lines(2)
    await log.end()
    assert [(e.seq, e.attempt) for e in await collect(stream)] == [(3, 2), (4, 2)]


async def test_an_unknown_job_is_told_at_the_first_entry() -> None:
    log = await ended()
    stream = LogStream(log, JobId("unknown"))
    with pytest.raises(JobNotFoundError):
        await stream.__anext__()


class Hasty(OneLog):
    """Its job prints, ends and is pruned while somebody is about to follow it."""

    async def follow(self, job_id: JobId) -> LogBuffer | None:
        self.print_lines(3)
        await self.end()
        found = await super().follow(job_id)
        await self.store.apply([Prune(at(10**6))])
        return found


async def test_a_reader_whose_job_is_pruned_before_it_has_read_is_told_so() -> None:
    log = await Hasty.opened()
    with pytest.raises(JobNotFoundError):
        await collect(log.stream())


async def test_a_reader_is_told_why_it_cannot_go_on() -> None:
    log = await OneLog.opened()
    log.broken = HodeiBrokenError("a bug")
    with pytest.raises(HodeiBrokenError, match="a bug"):
        await log.stream().__anext__()


async def test_a_buffer_that_closes_under_a_running_job_is_not_the_end() -> None:
    log = await OneLog.opened()
    log.print_lines(2)
    await log.write()
    stream = log.stream()
    assert len(await read(stream, 2)) == 2
    async with anyio.create_task_group() as tasks:
        ends: list[str] = []

        async def wait() -> None:
            try:
                await collect(stream)
                ends.append("as if the job were final")
            except HodeiBrokenError as error:
                ends.append(str(error))

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert log.live is not None
        log.live.close()
        log.live = None
        log.broken = HodeiBrokenError("a bug")
    assert ends == ["a bug"]


# source


async def test_a_source_leaves_the_others_out() -> None:
    log = await OneLog.opened()
    for source in (OUT, ERR, OUT, ERR, ERR):
        log.print(b"a\nb\n", source)
    await log.end()
    assert await numbers(log.stream(source=OUT)) == [1, 2, 5, 6]
    assert await numbers(log.stream(source=ERR)) == [3, 4, 7, 8, 9, 10]
    assert await numbers(log.stream(source=ERR, after=3)) == [4, 7, 8, 9, 10]


async def test_a_reader_of_one_source_sleeps_through_the_others() -> None:
    log = await OneLog.opened()
    stream = log.stream(source=ERR)
    async with anyio.create_task_group() as tasks:
        seen: list[LogEntry] = []

        async def follow() -> None:
            seen.extend(await collect(stream))

        tasks.start_soon(follow)
        for _ in range(3):
            log.print_lines(5)
            await turns()
            assert seen == []
        log.print(b"oops\n", ERR)
        await log.end()
    assert [(entry.seq, entry.text) for entry in seen] == [(16, "oops")]


# What left the buffer


async def test_what_left_the_buffer_is_read_from_the_store() -> None:
    log = await beyond_the_buffer()
    assert log.live is not None
    last = log.live.last
    stream = log.stream()
    assert [e.seq for e in await read(stream, last)] == list(range(1, last + 1))
    log.print_lines(2)
    await log.end()
    assert await numbers(stream) == [last + 1, last + 2]


async def test_a_slow_reader_misses_nothing_while_the_job_goes_on() -> None:
    log = await OneLog.opened()
    stream = log.stream()
    line = b"x" * 1023 + b"\n"
    seen: list[int] = []
    for _ in range(60):
        log.print(line * 250)
        await log.write()
        seen += [entry.seq for entry in await read(stream, 10)]
    await log.end()
    seen += await numbers(stream)
    assert seen == list(range(1, 60 * 250 + 1))


async def test_a_reader_that_waits_reads_nothing_of_the_store() -> None:
    log = await OneLog.opened()
    log.print_lines(1)
    async with anyio.create_task_group() as tasks:
        stream = log.stream(after=1)
        tasks.start_soon(collect, stream)
        await turns()
        before = log.store_reads
        for _ in range(20):
            log.print_lines(1)
            await log.write()
            await turns()
        assert log.store_reads == before
        await log.end()


# Gaps


async def forgetful(*, kept: int, printed: int) -> OneLog:
    """Return the log of an ended job of which the store kept the last entries."""
    log = await OneLog.opened(log_bytes=kept * (len(b"line 1\n") + 3 + 200))
    log.print_lines(printed)
    await log.end()
    return log


async def test_what_a_store_forgot_is_one_gap_with_the_exact_count() -> None:
    log = await forgetful(kept=10, printed=100)
    gap, *entries = await collect(log.stream())
    first = entries[0].seq
    assert (gap.source, gap.lost, gap.seq, gap.attempt) == (SYSTEM, first - 1, first - 1, 1)
    assert (gap.data, gap.partial, gap.job_id) == (b"", False, log.id)
    assert [entry.seq for entry in entries] == list(range(first, 101))
    assert not any(entry.lost for entry in entries)


async def test_a_reader_can_go_on_after_a_gap() -> None:
    log = await forgetful(kept=10, printed=100)
    everything = await collect(log.stream())
    gap = everything[0]
    assert await collect(log.stream(after=gap.seq)) == everything[1:]


async def test_a_gap_counts_what_this_reader_has_not_seen() -> None:
    log = await forgetful(kept=10, printed=100)
    gap = (await collect(log.stream()))[0]
    for after in (1, 40, gap.seq - 1):
        first = (await collect(log.stream(after=after)))[0]
        assert (first.lost, first.seq) == (gap.seq - after, gap.seq)


async def test_a_log_that_was_dropped_whole_is_one_gap() -> None:
    log = await forgetful(kept=0, printed=30)
    (gap,) = await collect(log.stream())
    assert (gap.lost, gap.seq) == (30, 30)
    assert await collect(log.stream(after=30)) == []


async def test_a_gap_names_the_attempt_of_the_last_entry_that_is_lost() -> None:
    log = await OneLog.opened(log_bytes=0)
    log.print_lines(2)
    await log.next_attempt()
    log.print_lines(3)
    await log.end()
    (gap,) = await collect(log.stream())
    assert (gap.attempt, gap.lost, gap.seq) == (2, 5, 5)


async def test_a_gap_passes_every_source() -> None:
    log = await forgetful(kept=10, printed=100)
    for source in (OUT, ERR, SYSTEM):
        assert (await collect(log.stream(source=source)))[0].lost > 0
    assert len(await collect(log.stream(source=ERR))) == 1


async def test_a_gap_counts_the_entries_of_every_source() -> None:
    log = await OneLog.opened(log_bytes=0)
    log.print_lines(3, ERR)
    log.print_lines(4, OUT)
    await log.end()
    (gap,) = await collect(log.stream(source=ERR))
    assert gap.lost == 7


async def test_a_gap_does_not_count_in_tail() -> None:
    log = await forgetful(kept=10, printed=100)
    kept = len(await collect(log.stream())) - 1
    assert await numbers(log.stream(tail=kept)) == list(range(101 - kept, 101))
    entries = await collect(log.stream(tail=kept + 1))
    assert [bool(entry.lost) for entry in entries] == [True] + [False] * kept


async def test_a_reader_that_fell_behind_is_told_of_the_gap_and_goes_on() -> None:
    line = b"x" * 1023 + b"\n"
    log = await OneLog.opened(log_bytes=1024 * 1024)
    stream = log.stream()
    log.print(line * 250)
    await log.write()
    seen = await read(stream, 5)
    for _ in range(60):
        log.print(line * 250)
        await log.write()
    await log.end()
    seen += await collect(stream)
    assert [entry.seq for entry in seen[:5]] == [1, 2, 3, 4, 5]
    assert_exact(seen, last=61 * 250)
    assert any(entry.lost for entry in seen)


async def test_what_the_buffer_still_holds_is_not_lost() -> None:
    line = b"x" * 1023 + b"\n"
    log = await OneLog.opened(log_bytes=1024 * 1024)
    while log.live is None or log.live.first == 1:
        log.print(line * 200)
        await log.write()
    first = log.live.first
    gap = await log.stream().__anext__()
    assert gap.lost == gap.seq == first - 1


def assert_exact(entries: list[LogEntry], *, last: int) -> None:
    """Check that entries and gaps together stand for each number from 1 to the last, once."""
    number = 0
    for entry in entries:
        number += entry.lost or 1
        assert entry.seq == number
    assert number == last


# Batches


async def test_a_batch_holds_at_most_a_thousand_entries() -> None:
    log = await OneLog.opened()
    log.print(b"\n" * 2_500)
    await log.end()
    sizes = [len(batch) async for batch in log.stream().batches()]
    assert sizes == [1_000, 1_000, 500]
    assert BATCH_ENTRIES == 1_000


@pytest.mark.parametrize("size", [65_536, 40_000, 700, 100_000])
async def test_a_batch_holds_at_most_a_mebibyte(size: int) -> None:
    log = await OneLog.opened()
    count = 3 * BATCH_BYTES // size
    for _ in range(count):
        log.print(b"x" * (size - 1) + b"\n")
        await log.write()
    await log.end()
    sizes = [sum(len(e.data) for e in batch) async for batch in log.stream().batches()]
    assert sum(sizes) == count * size
    assert max(sizes) <= BATCH_BYTES


async def test_batches_and_entries_may_be_mixed() -> None:
    log = await ended(lines=2_500)
    stream = log.stream()
    seen = [entry.seq for entry in await read(stream, 3)]
    async for batch in stream.batches():
        seen += [entry.seq for entry in batch]
        if len(seen) < 2_000:
            seen += [entry.seq for entry in await read(stream, 2)]
    assert seen == list(range(1, 2_501))


async def test_a_batch_is_never_empty() -> None:
    log = await OneLog.opened()
    stream = log.stream(source=ERR)
    async with anyio.create_task_group() as tasks:
        sizes: list[int] = []

        async def follow() -> None:
            async for batch in stream.batches():
                sizes.append(len(batch))  # noqa: PERF401 - while the job prints

        tasks.start_soon(follow)
        for source in (OUT, ERR, OUT, ERR):
            log.print(b"a\nb\n", source)
            await turns()
        await log.end()
    assert sizes == [2, 2]


@pytest.mark.parametrize("live", [True, False], ids=["live", "stored"])
async def test_a_segment_of_many_short_lines_does_not_hold_the_event_loop(live: bool) -> None:
    log = await OneLog.opened()
    log.print(b"\n" * 65_536)
    if not live:
        await log.end()
    taken = 0

    async def others() -> None:
        nonlocal taken
        while True:
            taken += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        stream = log.stream(follow=False)
        between: list[int] = []
        async for batch in stream.batches():
            assert len(batch) <= BATCH_ENTRIES
            between.append(taken)
        tasks.cancel_scope.cancel()
    assert len(between) == 66
    # Two turns apart: trio shuffles who is next.
    assert all(later > earlier for earlier, later in zip(between, between[2:], strict=False))


async def test_reading_by_entry_gives_others_their_turn_too() -> None:
    log = await OneLog.opened()
    log.print(b"\n" * 20_000)
    taken = 0

    async def others() -> None:
        nonlocal taken
        while True:
            taken += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        assert len(await collect(log.stream(follow=False))) == 20_000
        tasks.cancel_scope.cancel()
    assert taken >= 20


# Partial lines


async def test_a_long_line_comes_in_pieces_that_say_so() -> None:
    log = await OneLog.opened()
    line = b"0123456789" * 20_000 + b"\n"
    log.print(line[:100_000])
    log.print(b"meanwhile\n", ERR)
    log.print(line[100_000:])
    log.print(b"next\n")
    await log.end()
    entries = await collect(log.stream(source=OUT))
    assert [entry.partial for entry in entries] == [True, True, True, False, False]
    assert b"".join(entry.data for entry in entries[:-1]) == line
    assert [entry.seq for entry in await collect(log.stream())] == list(range(1, 7))


async def test_the_unfinished_line_of_a_lost_attempt_is_delivered() -> None:
    async with Hodei(MemoryStore(), providers=[LosingProvider()]) as hodei:
        result = await hodei.run("x")
    assert result.reason is Reason.WORKER_LOST
    assert result.stdout == "whole\nunfinished"


class LosingSession(WorkerSession):
    """Prints a line and a half, and is gone."""

    def __init__(self) -> None:
        self._gone = anyio.Event()

    async def run(self) -> None:
        await self._gone.wait()

    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        output.started()
        output.feed(OUT, b"whole\nunfinished")
        msg = "the machine is gone"
        raise WorkerLostError(msg)

    async def heartbeat(self) -> None:
        return None

    async def terminate(self) -> None:
        self._gone.set()


class LosingProvider(WorkerProvider):
    def __init__(self) -> None:
        self._sessions: list[LosingSession] = []

    @property
    def offer(self) -> Offer:
        return Offer(provider="losing")

    @property
    def policy(self) -> WorkerPolicy:
        return WorkerPolicy(min_workers=1, lease=None)

    async def open(self, host: ProviderHost) -> None:
        pass

    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        self._sessions.append(LosingSession())
        return self._sessions[-1]

    async def discard(self, worker_id: WorkerId) -> None:
        return None

    async def close(self) -> None:
        for session in self._sessions:
            await session.terminate()


# Many readers, and readers that leave


async def test_a_thousand_readers_are_all_given_everything() -> None:
    log = await OneLog.opened()
    totals: list[int] = []

    async def follow(after: int) -> None:
        total = 0
        async for batch in log.stream(after=after).batches():
            total += len(batch)
        totals.append(after + total)

    async with anyio.create_task_group() as tasks:
        for number in range(1_000):
            tasks.start_soon(follow, number % 7)
        for _ in range(5):
            await turns()
            log.print_lines(10)
            await log.write()
        await log.end()
    assert totals == [50] * 1_000


async def test_readers_may_join_at_any_moment() -> None:
    chance = random.Random(3)
    log = await OneLog.opened()
    wrong: list[str] = []

    async def follow(after: int) -> None:
        seen = await numbers(log.stream(after=after))
        if seen != list(range(after + 1, 301)):
            wrong.append(f"after {after}: {seen}")

    async with anyio.create_task_group() as tasks:
        for _ in range(300):
            log.print_lines(1, chance.choice((OUT, ERR)))
            if chance.random() < 0.3:
                await log.write()
            if chance.random() < 0.5:
                tasks.start_soon(follow, chance.randrange(301))
            if chance.random() < 0.5:
                await anyio.lowlevel.checkpoint()
        await log.end()
    assert wrong == []


async def test_a_reader_that_is_never_read_holds_nobody_up() -> None:
    log = await OneLog.opened()
    idle = log.stream()
    await read_after_print(log, idle)
    other = log.stream()
    log.print_lines(100)
    await log.end()
    assert len(await collect(other)) == 101
    assert len(await collect(idle)) == 100


async def read_after_print(log: OneLog, stream: LogStream) -> None:
    log.print_lines(1)
    assert len(await read(stream, 1)) == 1


async def test_readers_that_break_off_leave_nothing_behind_them() -> None:
    log = await OneLog.opened()
    log.print_lines(50)
    assert log.live is not None
    streams = []
    for number in range(1_000):
        stream = log.stream()
        async for entry in stream:
            if entry.seq > number % 40:
                break
        streams.append(weakref.ref(stream))
    del stream
    gc.collect()
    assert [ref for ref in streams if ref() is not None] == []
    assert log.live._more is None
    await log.end()


async def test_readers_that_are_cancelled_leave_nothing_behind_them() -> None:
    log = await OneLog.opened()
    log.print_lines(5)
    streams = [log.stream() for _ in range(200)]
    stays = log.stream(after=5)
    async with anyio.create_task_group() as tasks:
        seen: list[int] = []

        async def follow() -> None:
            seen.extend(await numbers(stays))

        tasks.start_soon(follow)
        async with anyio.create_task_group() as leaving:
            for stream in streams:
                leaving.start_soon(collect, stream)
            await anyio.wait_all_tasks_blocked()
            leaving.cancel_scope.cancel()
        refs = [weakref.ref(stream) for stream in streams]
        streams.clear()
        del stream
        log.print_lines(2)
        await log.end()
    gc.collect()
    assert seen == [6, 7]
    assert [ref for ref in refs if ref() is not None] == []


async def test_a_reader_that_was_cancelled_goes_on_where_it_was() -> None:
    log = await OneLog.opened()
    log.print_lines(3)
    stream = log.stream()
    assert len(await read(stream, 3)) == 3
    for _ in range(3):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.__anext__()
    log.print_lines(2)
    await log.end()
    assert await numbers(stream) == [4, 5]


async def test_a_block_around_a_stream_does_nothing_more() -> None:
    log = await ended()
    async with log.stream() as stream:
        assert len(await read(stream, 4)) == 4
    assert await numbers(stream) == [5, 6, 7, 8, 9, 10]
