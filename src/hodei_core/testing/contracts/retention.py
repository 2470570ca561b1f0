"""The suite of `Retain`: what a policy does not keep is deleted, and nothing else."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

from hodei_core.jobs import Job
from hodei_core.ports import JobFilter, Outcome, Retain
from hodei_core.retention import Retention
from hodei_core.states import JobState, Reason
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite, ids
from hodei_core.testing.contracts.samples import at, segment

UNLIMITED = Retention(max_age=None, failed_max_age=None, max_jobs=None, max_log_bytes=None)
"""Keeps everything."""

ROUGHLY = 10_000
"""More than a store may count for a few segments besides their data."""


async def ended(
    driver: StoreDriver,
    name: str,
    *,
    seconds: float = 3,
    state: JobState = JobState.SUCCEEDED,
    log: int = 0,
) -> Job:
    """Store a job that ended at `at(seconds)`, and printed so many segments of 100,000 bytes."""
    job = await driver.start(await driver.add(name))
    await printed(driver, job, log)
    reasons = {JobState.SUCCEEDED: None, JobState.TIMED_OUT: Reason.TIMEOUT}
    reason = reasons.get(
        state, Reason.CANCELLED if state is JobState.CANCELLED else Reason.SIGNALLED
    )
    return await driver.move(job, job.finished(state, reason, at=at(seconds)))


async def printed(driver: StoreDriver, job: Job, segments: int) -> None:
    """Store a log."""
    for number in range(segments):
        await driver.append(job, segment(number + 1, b"x" * 100_000))


async def retain(
    driver: StoreDriver, retention: Retention, *, seconds: float = 1000, limit: int = 500
) -> Outcome:
    """Delete, slice by slice, what a policy does not keep; return the sum."""
    count = 0
    while True:
        outcome = await driver.apply(Retain(retention, at(seconds), limit=limit))
        count += outcome.count
        if not outcome.more:
            return Outcome(count=count)


async def kept(driver: StoreDriver) -> list[str]:
    """Return the ids of the jobs that are stored, the last first."""
    return ids(await driver.store.jobs.select(JobFilter(), limit=None))


class RetentionContract(StoreSuite):
    """Final jobs go by age and number, logs by size; what has not ended stays."""

    async def test_a_policy_without_limits_keeps_everything(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await ended(driver, "old", log=3)
            assert (await retain(driver, UNLIMITED, seconds=10**9)).count == 0
            assert await kept(driver) == ["old"]

    async def test_failed_jobs_are_kept_longer(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            for state in (state for state in JobState if state.is_final):
                await ended(driver, f"{state.value}-1", seconds=10, state=state)
                await ended(driver, f"{state.value}-2", seconds=20, state=state)
            policy = Retention(max_age=100, failed_max_age=200)
            assert (await retain(driver, policy, seconds=115)).count == 2
            assert sorted(await kept(driver)) == [
                "cancelled-2",
                "failed-1",
                "failed-2",
                "succeeded-2",
                "timed_out-1",
                "timed_out-2",
            ]
            assert (await retain(driver, policy, seconds=120)).count == 0
            assert (await retain(driver, policy, seconds=215)).count == 4
            assert sorted(await kept(driver)) == ["failed-2", "timed_out-2"]

    async def test_the_jobs_that_ended_first_go_when_there_are_too_many(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            for name, seconds in (("a", 50), ("b", 10), ("c", 30), ("d", 20), ("e", 40)):
                state = JobState.FAILED if name in "bd" else JobState.SUCCEEDED
                await ended(driver, name, seconds=seconds, state=state)
            await driver.add("pending")
            policy = Retention(max_jobs=2)
            assert (await retain(driver, policy, limit=2)).count == 3
            assert await kept(driver) == ["pending", "e", "a"]
            assert (await retain(driver, policy)).count == 0

    async def test_jobs_that_have_not_ended_stay_with_their_logs(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.add("pending")
            running = await driver.start(await driver.add("running"))
            await printed(driver, running, 3)
            waits = await driver.start(await driver.add("waits"))
            await printed(driver, waits, 3)
            await driver.retry(waits, due=5)
            nothing = Retention(max_age=0, failed_max_age=0, max_jobs=0, max_log_bytes=0)
            assert (await retain(driver, nothing, seconds=10**9)).count == 0
            assert await driver.total() == 3
            for job in (running, waits):
                assert (await driver.store.logs.bounds(job.id)).lost == 0

    async def test_logs_go_before_jobs_those_submitted_first_go_first(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            running = await driver.start(await driver.add("running"))
            await printed(driver, running, 2)
            first = await ended(driver, "first", log=2)
            second = await ended(driver, "second", log=2)
            third = await ended(driver, "third", log=2)
            policy = Retention(max_age=None, max_log_bytes=500_000 + ROUGHLY)
            assert (await retain(driver, policy)).count == 0
            logs = driver.store.logs
            found = [await logs.bounds(job.id) for job in (running, first, second, third)]
            assert [(one.last, one.lost, one.lost_attempt) for one in found] == [
                (2, 0, 0),
                (2, 2, 1),
                (2, 1, 1),
                (2, 0, 0),
            ]
            left = await logs.read(second.id, after=0, max_bytes=1)
            assert [one.first_seq for one in left] == [2]
            assert await logs.read(first.id, after=0, max_bytes=1) == []

    async def test_a_slice_says_that_more_is_left(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            for name in ("a", "b", "c"):
                await ended(driver, name)
            change = Retain(Retention(max_age=0), at(100), limit=2)
            assert (await driver.apply(change)) == Outcome(count=2, more=True)
            assert (await driver.apply(change)) == Outcome(count=1)
