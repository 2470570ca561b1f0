from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import anyio
import anyio.lowlevel
import pytest

from hodei_core.ids import JobId
from hodei_core.logs import MAX_LINE_BYTES, LogEntry, LogSegment, LogSource
from hodei_core.runtime.log_buffer import BUFFER_BYTES, COMMIT_BYTES, LogBuffer

JOB = JobId("job")
AT = datetime(2020, 1, 1, tzinfo=timezone.utc)
PLENTY = 1 << 40
MIB = 1024 * 1024
LINE = b"x" * 1023 + b"\n"
OUT, ERR = LogSource.STDOUT, LogSource.STDERR


class Bench:
    """A buffer whose first attempt has begun, and how often it was touched."""

    def __init__(self, *, last: int = 0) -> None:
        self.touched = 0
        self.buffer = LogBuffer(JOB, last=last, touched=self._touch)
        self.buffer.begin(1)

    def _touch(self, buffer: LogBuffer) -> None:
        assert buffer is self.buffer
        self.touched += 1

    def print(self, data: bytes, source: LogSource = OUT) -> bool:
        return self.buffer.feed(source, data, AT)

    def write(self, most: int = COMMIT_BYTES) -> tuple[LogSegment, ...]:
        """Do as the log writer does: take what is unwritten, then say that it is written."""
        segments = self.buffer.unwritten(most)
        self.buffer.wrote(len(segments))
        return segments

    def entries(self, after: int | None = None) -> list[LogEntry]:
        after = self.buffer.first - 1 if after is None else after
        segments = self.buffer.read(after, PLENTY)
        return [entry for segment in segments for entry in segment.entries(JOB, after)]


# Lines


def test_lines_are_numbered_from_one_across_sources() -> None:
    bench = Bench()
    bench.print(b"one\ntwo\n")
    bench.print(b"oops\n", ERR)
    bench.print(b"three\n")
    assert [(e.seq, e.source, e.data) for e in bench.entries()] == [
        (1, OUT, b"one\n"),
        (2, OUT, b"two\n"),
        (3, ERR, b"oops\n"),
        (4, OUT, b"three\n"),
    ]
    assert (bench.buffer.first, bench.buffer.last) == (1, 4)


def test_the_numbers_follow_on_a_log_that_is_stored() -> None:
    bench = Bench(last=41)
    assert (bench.buffer.first, bench.buffer.last) == (42, 41)
    bench.print(b"next\n")
    assert [entry.seq for entry in bench.entries()] == [42]


def test_a_line_keeps_the_instant_of_its_arrival() -> None:
    bench = Bench()
    bench.buffer.feed(OUT, b"one\n", AT)
    bench.buffer.feed(OUT, b"two\n", AT + timedelta(seconds=1))
    assert [entry.at for entry in bench.entries()] == [AT, AT + timedelta(seconds=1)]


def test_an_unfinished_line_is_held_back_until_it_is_complete() -> None:
    bench = Bench()
    bench.print(b"un")
    bench.print(b"other\n", ERR)
    bench.print(b"fini")
    assert [entry.data for entry in bench.entries()] == [b"other\n"]
    bench.print(b"shed\nrest")
    assert [entry.data for entry in bench.entries()] == [b"other\n", b"unfinished\n"]
    assert not any(entry.partial for entry in bench.entries())


def test_an_unfinished_line_is_delivered_when_its_stream_ends() -> None:
    bench = Bench()
    bench.print(b"rest")
    bench.buffer.finish(ERR, AT)
    assert bench.entries() == []
    bench.buffer.finish(OUT, AT)
    bench.buffer.finish(OUT, AT)
    assert [entry.data for entry in bench.entries()] == [b"rest"]


def test_a_line_that_is_too_long_becomes_several_entries() -> None:
    bench = Bench()
    data = b"".join(bytes([number]) * 50_000 for number in range(65, 69)) + b"\nnext\n"
    for start in range(0, len(data), 7_000):
        bench.print(data[start : start + 7_000])
    entries = bench.entries()
    assert [len(entry.data) for entry in entries] == [65_536, 65_536, 65_536, 3_393, 5]
    assert [entry.partial for entry in entries] == [True, True, True, False, False]
    assert b"".join(entry.data for entry in entries) == data


def test_whatever_comes_in_is_what_comes_out() -> None:
    chance = random.Random(7)
    bench = Bench()
    written = {OUT: b"", ERR: b""}
    for _ in range(300):
        source = chance.choice((OUT, ERR))
        data = bytes(chance.choices(b"\n\n\r\0\xff\xe2\x80\xa8ab", k=chance.randrange(40)))
        data += b"-" * chance.choice((0, 0, 0, 50_000))
        written[source] += data
        bench.print(data, source)
    for source in written:
        bench.buffer.finish(source, AT)
    entries = bench.entries()
    assert [entry.seq for entry in entries] == list(range(1, bench.buffer.last + 1))
    for source, data in written.items():
        mine = [entry for entry in entries if entry.source is source]
        assert b"".join(entry.data for entry in mine) == data
        assert all(0 < len(entry.data) <= MAX_LINE_BYTES for entry in mine)
        assert all(b"\n" not in entry.data[:-1] for entry in mine)
        ends = [entry.data.endswith(b"\n") for entry in mine[:-1]]
        assert ends == [not entry.partial for entry in mine[:-1]]


def test_the_next_attempt_goes_on_with_the_numbers() -> None:
    bench = Bench()
    bench.print(b"first\n")
    bench.buffer.finish(OUT, AT)
    bench.buffer.begin(2)
    bench.print(b"second\n")
    assert [(e.seq, e.attempt) for e in bench.entries()] == [(1, 1), (2, 2)]


# Reading


def test_reading_begins_after_a_number() -> None:
    bench = Bench()
    for number in range(1, 8):
        bench.print(b"a\nb\n" if number % 2 else b"c\n")
    for after in range(bench.buffer.last + 3):
        expected = list(range(after + 1, bench.buffer.last + 1))
        assert [entry.seq for entry in bench.entries(after)] == expected


def test_reading_is_bounded_but_gives_one_segment_at_least() -> None:
    bench = Bench()
    for _ in range(5):
        bench.print(LINE)
    for max_bytes, count in ((0, 1), (1024, 1), (2047, 1), (2048, 2), (PLENTY, 5)):
        assert len(bench.buffer.read(0, max_bytes)) == count


def test_reading_back_shows_the_last_first() -> None:
    bench = Bench()
    for data in (b"a\nb\n", b"c\nd\n", b"e\n"):
        bench.print(data)
    for before, firsts in ((9, [5, 3, 1]), (5, [3, 1]), (4, [3, 1]), (1, [])):
        assert [s.first_seq for s in bench.buffer.read_back(before)] == firsts


# Writing to the store


def test_each_piece_is_told_to_the_writer() -> None:
    bench = Bench()
    bench.print(b"one\ntwo\n")
    bench.print(b"unfinished")
    assert bench.touched == 1
    bench.buffer.finish(OUT, AT)
    assert bench.touched == 2


def test_a_commit_is_bounded_but_holds_one_segment_at_least() -> None:
    bench = Bench()
    for _ in range(10):
        bench.print(LINE * 60)
    first = bench.buffer.unwritten()
    assert sum(len(s.data) + 200 for s in first) <= COMMIT_BYTES
    assert len(first) == 4
    assert len(bench.buffer.unwritten(most=1)) == 1


def test_what_was_written_is_not_written_again() -> None:
    bench = Bench()
    seen: list[int] = []
    for _ in range(50):
        bench.print(LINE * 20)
        seen += [segment.first_seq for segment in bench.write(most=50_000)]
    while segments := bench.write():
        seen += [segment.first_seq for segment in segments]
    assert seen == list(range(1, 1_000, 20))
    assert bench.buffer.unwritten_bytes == 0


def test_what_is_written_stays_as_long_as_there_is_space() -> None:
    bench = Bench()
    bench.print(b"one\n")
    bench.write()
    bench.print(b"two\n")
    assert [entry.seq for entry in bench.entries(0)] == [1, 2]


def test_the_buffer_keeps_its_bound_however_much_passes_through() -> None:
    bench = Bench()
    for _ in range(400):
        for _ in range(8):
            bench.print(LINE * 32)
        bench.write(PLENTY)
        kept = bench.buffer.read(bench.buffer.first - 1, PLENTY)
        assert sum(len(s.data) + 200 for s in kept) <= BUFFER_BYTES
        assert len(bench.buffer._segments) <= 2 * len(kept) + 1
    assert bench.buffer.last == 400 * 8 * 32
    assert bench.buffer.first > 1
    assert bench.entries()[-1].seq == bench.buffer.last


def test_what_is_not_written_never_leaves() -> None:
    bench = Bench()
    for _ in range(12):
        bench.print(LINE * 1024)
    assert bench.buffer.first == 1
    assert bench.entries()[0].seq == 1
    bench.write(MIB)
    assert bench.buffer.first > 1
    assert bench.buffer.unwritten(1)[0].first_seq >= bench.buffer.first


# Holding the job back


def test_a_job_is_held_back_when_too_much_is_unwritten() -> None:
    bench = Bench()
    fed = 0
    while bench.print(LINE * 60):
        fed += 60 * 1024
    assert 1.9 * MIB < fed < 2 * MIB
    assert not bench.print(b"more\n")
    assert bench.entries()[-1].data == b"more\n"


async def test_room_is_told_when_half_of_it_is_free() -> None:
    bench = Bench()
    while bench.print(LINE * 60):
        pass
    told = 0

    async def wait() -> None:
        nonlocal told
        await bench.buffer.room()
        told += 1

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            while bench.buffer.unwritten_bytes >= MIB:
                assert told == 0
                bench.write()
                await anyio.wait_all_tasks_blocked()
        assert told == 3
        assert bench.print(LINE)


async def test_there_is_room_at_once_while_little_is_unwritten() -> None:
    bench = Bench()
    bench.print(LINE * 100)
    with anyio.fail_after(10):
        await bench.buffer.room()


async def test_a_closed_buffer_holds_nobody_back() -> None:
    bench = Bench()
    while bench.print(LINE * 60):
        pass
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.buffer.room)
            await anyio.wait_all_tasks_blocked()
            bench.buffer.close()
        await bench.buffer.room()


# Waking readers


async def test_who_prints_on_into_a_closed_buffer_can_be_ended() -> None:
    """Its host is broken, or another one has taken over."""
    bench = Bench()
    bench.buffer.close()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:

            async def print_on() -> None:
                while True:
                    bench.print(LINE)
                    await bench.buffer.room()

            tasks.start_soon(print_on)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()


async def test_all_readers_wake_when_more_comes() -> None:
    bench = Bench()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(bench.buffer.more)
            await anyio.wait_all_tasks_blocked()
            bench.print(b"more\n")


async def test_readers_sleep_on_while_a_line_is_unfinished() -> None:
    bench = Bench()
    woken = False

    async def wait() -> None:
        nonlocal woken
        await bench.buffer.more()
        woken = True

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            bench.print(b"unfinished")
            bench.write()
            await anyio.wait_all_tasks_blocked()
            assert not woken
            bench.buffer.close()
    assert woken


async def test_a_closed_buffer_has_nothing_more_to_wait_for() -> None:
    bench = Bench()
    bench.buffer.close()
    with anyio.fail_after(10):
        await bench.buffer.more()


async def test_a_reader_that_stops_waiting_leaves_the_others_alone() -> None:
    bench = Bench()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.buffer.more)
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await bench.buffer.more()
            assert scope.cancelled_caught
            bench.print(b"more\n")


@pytest.mark.parametrize("count", [1, 1_000])
async def test_waiting_readers_cost_the_buffer_one_event(count: int) -> None:
    bench = Bench()
    made = 0
    original = anyio.Event

    def counted() -> anyio.Event:
        nonlocal made
        made += 1
        return original()

    with pytest.MonkeyPatch.context() as patch, anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            patch.setattr("hodei_core.runtime.log_buffer.anyio.Event", counted)
            for _ in range(count):
                tasks.start_soon(bench.buffer.more)
            await anyio.wait_all_tasks_blocked()
            patch.undo()
            bench.print(b"more\n")
    assert made == 1
