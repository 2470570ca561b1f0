"""The suite of `LogStore` and `AppendLogs`."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.logs import LogSegment, LogSource, torn_segment
from hodei_core.ports import Advance, AppendLogs, LogBounds
from hodei_core.states import JobState, Reason
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite
from hodei_core.testing.contracts.repository import assert_frozen
from hodei_core.testing.contracts.samples import at, segment

NOTHING = LogBounds(last=0, lost=0, lost_attempt=0)
PLENTY = 1 << 20


async def logged(driver: StoreDriver, *segments: LogSegment) -> Job:
    """Store a running job with this log."""
    await driver.add_worker()
    job = await driver.start(await driver.add("a"))
    await driver.append(job, *segments)
    return job


class LogContract(StoreSuite):
    """Segments come back whole, with the numbers they were written with."""

    async def test_a_job_without_a_log_has_no_numbers(self) -> None:
        async with self.opened() as driver:
            job = await driver.add("a")
            logs = driver.store.logs
            assert await logs.bounds(job.id) == NOTHING
            assert await logs.read(job.id, after=0, max_bytes=PLENTY) == []
            assert await logs.read_back(job.id, before=9, max_bytes=PLENTY) == []

    async def test_a_segment_comes_back_as_it_was_written(self) -> None:
        async with self.opened() as driver:
            written = [
                segment(1, b"one\ntwo\n", seconds=1.000001),
                segment(3, b"\xff\0\x1b[1m\r\n", source=LogSource.STDERR),
                segment(4, b"half a li", partial=True),
                segment(5, b"ne\n"),
                segment(6, b"no newline"),
            ]
            job = await logged(driver, *written)
            read = await driver.store.logs.read(job.id, after=0, max_bytes=PLENTY)
            assert read == written
            assert_frozen(read[0])

    async def test_the_log_goes_on_in_the_next_attempt(self) -> None:
        async with self.opened() as driver:
            first, second = segment(1, b"one\n"), segment(2, b"two\n", attempt=2)
            job = await driver.retry(await logged(driver, first), due=5)
            assert await driver.mark_due(5) == [job.id]
            job = await driver.start(job.due())
            assert (await driver.append(job, second)).applied
            read = await driver.store.logs.read(job.id, after=0, max_bytes=PLENTY)
            assert read == [first, second]

    async def test_the_numbers_follow_on_what_is_stored(self) -> None:
        async with self.opened() as driver:
            job = await logged(driver, segment(1, b"a\nb\n"))
            await driver.store.apply(
                [
                    AppendLogs(job.id, (segment(3, b"c\n"), segment(4, b"d\n"))),
                    AppendLogs(job.id, (segment(5, b"e\nf\n"),)),
                ]
            )
            read = await driver.store.logs.read(job.id, after=0, max_bytes=PLENTY)
            assert [s.first_seq for s in read] == [1, 3, 4, 5]
            assert await driver.store.logs.bounds(job.id) == LogBounds(
                last=6, lost=0, lost_attempt=0
            )

    async def test_reading_begins_with_the_segment_that_holds_the_next_entry(self) -> None:
        async with self.opened() as driver:
            job = await logged(driver, segment(1, b"a\nb\n"), segment(3, b"c\nd\ne\n"))
            logs = driver.store.logs
            for after, first in ((0, 1), (1, 1), (2, 3), (3, 3), (4, 3)):
                read = await logs.read(job.id, after=after, max_bytes=PLENTY)
                assert read[0].first_seq == first
            assert await logs.read(job.id, after=5, max_bytes=PLENTY) == []
            assert await logs.read(job.id, after=99, max_bytes=PLENTY) == []

    async def test_reading_stops_where_the_data_is_enough(self) -> None:
        async with self.opened() as driver:
            job = await logged(driver, *[segment(seq, b"x" * 9 + b"\n") for seq in range(1, 6)])
            logs = driver.store.logs
            for max_bytes, count in ((20, 2), (29, 2), (30, 3), (10, 1), (PLENTY, 5)):
                assert len(await logs.read(job.id, after=0, max_bytes=max_bytes)) == count
                back = await logs.read_back(job.id, before=6, max_bytes=max_bytes)
                assert len(back) == count

    async def test_one_segment_is_read_however_large(self) -> None:
        async with self.opened() as driver:
            job = await logged(driver, segment(1, b"x" * 1000), segment(2, b"y" * 1000))
            logs = driver.store.logs
            assert [s.first_seq for s in await logs.read(job.id, after=0, max_bytes=0)] == [1]
            assert [s.first_seq for s in await logs.read_back(job.id, before=9, max_bytes=0)] == [2]

    async def test_reading_back_shows_the_last_first(self) -> None:
        async with self.opened() as driver:
            job = await logged(
                driver, segment(1, b"a\nb\n"), segment(3, b"c\nd\n"), segment(5, b"e\n")
            )
            logs = driver.store.logs
            for before, firsts in ((6, [5, 3, 1]), (5, [3, 1]), (4, [3, 1]), (3, [1]), (1, [])):
                back = await logs.read_back(job.id, before=before, max_bytes=PLENTY)
                assert [s.first_seq for s in back] == firsts

    async def test_the_logs_of_jobs_do_not_mix(self) -> None:
        async with self.opened() as driver:
            job = await logged(driver, segment(1, b"a\n"))
            other = await driver.start(await driver.add("b"))
            await driver.append(other, segment(1, b"b\n"), segment(2, b"c\n"))
            logs = driver.store.logs
            assert (await logs.bounds(job.id)).last == 1
            (read,) = await logs.read(job.id, after=0, max_bytes=PLENTY)
            assert read.data == b"a\n"

    async def test_a_log_outlasts_the_end_of_its_job(self) -> None:
        async with self.opened() as driver:
            job = await logged(driver, segment(1, b"a\n"))
            await driver.finish(job)
            assert (await driver.store.logs.bounds(job.id)).last == 1
            (read,) = await driver.store.logs.read(job.id, after=0, max_bytes=PLENTY)
            assert read.data == b"a\n"

    async def test_a_log_that_may_miss_its_end_goes_on_with_an_entry_that_stands_for_it(
        self,
    ) -> None:
        async with self.opened() as driver:
            written = [segment(1, b"one\ntwo\n"), torn_segment(attempt=1, seq=3, at=at(3))]
            job = await logged(driver, written[0])
            failed = job.finished(JobState.FAILED, Reason.WORKER_LOST, at=at(3))
            stale = await driver.apply(Advance(failed, job.version + 1, torn=True))
            assert not stale.applied
            assert (await driver.store.logs.bounds(job.id)).last == 2
            assert (await driver.apply(Advance(failed, job.version, torn=True))).applied
            assert (await driver.store.logs.bounds(job.id)).last == 3
            assert await driver.store.logs.read(job.id, after=0, max_bytes=PLENTY) == written

    async def test_a_log_that_is_all_missing_has_an_entry_that_stands_for_it(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.start(await driver.add("a"))
            failed = job.finished(JobState.FAILED, Reason.WORKER_LOST, at=at(3))
            await driver.apply(Advance(failed, job.version, torn=True))
            read = await driver.store.logs.read(job.id, after=0, max_bytes=PLENTY)
            assert read == [torn_segment(attempt=1, seq=1, at=at(3))]
            (entry,) = read[0].entries(job.id)
            assert (entry.seq, entry.lost, entry.source) == (1, 1, LogSource.SYSTEM)
            assert "attempt 1" in entry.text

    async def test_nothing_is_kept_of_a_job_that_is_not_stored(self) -> None:
        async with self.opened() as driver:
            await driver.apply(AppendLogs(JobId("unknown"), (segment(1, b"a\n"),)))
            assert await driver.store.logs.bounds(JobId("unknown")) == NOTHING

    async def test_a_list_that_came_out_is_the_reader_s_own(self) -> None:
        async with self.opened() as driver:
            job = await logged(driver, segment(1, b"a\n"))
            logs = driver.store.logs
            (await logs.read(job.id, after=0, max_bytes=PLENTY)).clear()
            (await logs.read_back(job.id, before=9, max_bytes=PLENTY)).clear()
            assert len(await logs.read(job.id, after=0, max_bytes=PLENTY)) == 1
