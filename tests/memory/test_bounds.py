"""What a memory store forgets, and how it tells."""

from __future__ import annotations

from hodei_core.backends.memory import MemoryStore
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.ports import JobFilter, LogBounds
from hodei_core.testing.contracts.driver import HOST, StoreDriver, ids
from hodei_core.testing.contracts.samples import segment

OVERHEAD = 200  # what a segment counts besides its data
PLENTY = 1 << 40


async def opened(store: MemoryStore) -> StoreDriver:
    await store.open(HOST)
    driver = StoreDriver(store)
    await driver.add_worker()
    return driver


async def printing(driver: StoreDriver, name: str) -> Job:
    return await driver.start(await driver.add(name))


async def stored(driver: StoreDriver, job: Job) -> list[int]:
    """Return the numbers of a job's stored entries."""
    segments = await driver.store.logs.read(job.id, after=0, max_bytes=PLENTY)
    return [seq for each in segments for seq, _ in each.lines()]


async def bounds(driver: StoreDriver, job: Job) -> LogBounds:
    return await driver.store.logs.bounds(job.id)


async def test_the_oldest_final_jobs_go_beyond_keep() -> None:
    driver = await opened(MemoryStore(keep=3))
    jobs = [await driver.add(f"job-{number}") for number in range(6)]
    for number in (2, 0, 1, 3, 4):
        await driver.finish(jobs[number])
    left = ids(await driver.store.jobs.select(JobFilter(), limit=None))
    assert left == ["job-5", "job-4", "job-3", "job-1"]
    assert await driver.total() == 4


async def test_jobs_that_have_not_ended_are_never_forgotten() -> None:
    driver = await opened(MemoryStore(keep=1))
    jobs = [await driver.add(f"job-{number}") for number in range(10)]
    for job in jobs[5:]:
        await driver.start(job)
    await driver.finish(await driver.add("final"))
    assert await driver.total() == 11


async def test_a_forgotten_job_lets_go_of_its_key_and_its_log() -> None:
    driver = await opened(MemoryStore(keep=1))
    job = await driver.start(await driver.add("a", key="k"))
    await driver.append(job, segment(1, b"line\n"))
    await driver.finish(job)
    await driver.finish(await driver.add("b"))
    assert await driver.get("a") is None
    assert await bounds(driver, job) == LogBounds(last=0, lost=0, lost_attempt=0)
    await driver.add("c", key="k", command="other")


async def test_a_key_that_was_taken_over_outlasts_the_first_job() -> None:
    driver = await opened(MemoryStore(keep=1))
    await driver.finish(await driver.add("a", key="k"))
    again = await driver.add("b", key="k", retried_from="a")
    await driver.finish(await driver.add("c"))
    assert await driver.get("a") is None
    await driver.finish(again)
    assert await driver.get("b") is not None


async def test_a_log_keeps_its_last_entries_within_the_bound_of_a_job() -> None:
    driver = await opened(MemoryStore(log_bytes=5 * (10 + OVERHEAD)))
    job = await printing(driver, "a")
    for first in range(1, 40, 2):
        await driver.append(job, segment(first, b"aaaa\nbbbb\n", attempt=1 + first // 20))
    assert await stored(driver, job) == list(range(31, 41))
    assert await bounds(driver, job) == LogBounds(last=40, lost=30, lost_attempt=2)


async def test_a_store_without_room_for_logs_still_counts_them() -> None:
    driver = await opened(MemoryStore(log_bytes=0))
    job = await printing(driver, "a")
    await driver.append(job, segment(1, b"a\nb\nc\n"), segment(4, b"d\n"))
    assert await stored(driver, job) == []
    assert await bounds(driver, job) == LogBounds(last=4, lost=4, lost_attempt=1)


async def test_the_logs_of_the_oldest_final_jobs_go_first_and_whole() -> None:
    driver = await opened(MemoryStore(log_bytes=4 * (100 + OVERHEAD)))
    jobs = [await printing(driver, name) for name in "abcd"]
    for job in jobs:
        await driver.append(job, segment(1, b"x" * 99 + b"\n"))
    await driver.finish(jobs[1])
    await driver.finish(jobs[0])
    await driver.append(jobs[3], segment(2, b"y" * 99 + b"\n"))
    assert await stored(driver, jobs[1]) == []
    assert await bounds(driver, jobs[1]) == LogBounds(last=1, lost=1, lost_attempt=1)
    await driver.append(jobs[3], segment(3, b"z" * 99 + b"\n"))
    assert await stored(driver, jobs[0]) == []
    assert await stored(driver, jobs[2]) == [1]
    assert await stored(driver, jobs[3]) == [1, 2, 3]
    assert await driver.total() == 4


async def test_then_the_largest_log_gives_way_and_a_small_one_stays() -> None:
    driver = await opened(MemoryStore(log_bytes=10 * (100 + OVERHEAD)))
    loud = await printing(driver, "loud")
    for seq in range(1, 11):
        await driver.append(loud, segment(seq, b"x" * 99 + b"\n"))
    quiet = await printing(driver, "quiet")
    await driver.append(quiet, segment(1, b"hello\n"))
    assert await stored(driver, quiet) == [1]
    assert await stored(driver, loud) == list(range(2, 11))
    assert (await bounds(driver, loud)).lost == 1


async def test_a_log_that_comes_late_to_a_final_job_is_bounded_too() -> None:
    driver = await opened(MemoryStore(log_bytes=2 * (100 + OVERHEAD)))
    job = await printing(driver, "a")
    await driver.append(job, segment(1, b"x" * 99 + b"\n"))
    await driver.finish(job)
    for seq in range(2, 10):
        await driver.append(job, segment(seq, b"x" * 99 + b"\n"))
    other = await printing(driver, "b")
    for seq in range(1, 10):
        await driver.append(other, segment(seq, b"y" * 99 + b"\n"))
    assert await stored(driver, other) == [8, 9]
    assert await stored(driver, job) == []


async def test_what_was_dropped_is_not_read() -> None:
    driver = await opened(MemoryStore(log_bytes=3 * (2 + OVERHEAD)))
    job = await printing(driver, "a")
    for seq in range(1, 8):
        await driver.append(job, segment(seq, b"x\n"))
    logs = driver.store.logs
    assert [s.first_seq for s in await logs.read(job.id, after=2, max_bytes=PLENTY)] == [5, 6, 7]
    assert [s.first_seq for s in await logs.read_back(job.id, before=7, max_bytes=PLENTY)] == [6, 5]
    assert await logs.read_back(job.id, before=5, max_bytes=PLENTY) == []
    assert await logs.read_back(JobId("unknown"), before=5, max_bytes=PLENTY) == []
