"""The suite of `JobRepository` and `Prune`: jobs by id, by filter, counted and deleted."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

import random

import attrs

from hodei_core.errors import JobNotFoundError
from hodei_core.ids import JobId
from hodei_core.ports import JobFilter, Prune
from hodei_core.states import JobState
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite, ids
from hodei_core.testing.contracts.samples import at, segment, submission


async def selected(driver: StoreDriver, **conditions: object) -> list[str]:
    """Return the ids of the jobs that meet the conditions of a `JobFilter`."""
    matching = JobFilter(**conditions)  # type: ignore[arg-type]  # passed through
    return ids(await driver.store.jobs.select(matching, limit=None))


class RepositoryContract(StoreSuite):
    """Jobs are shown as they are stored."""

    async def test_an_unknown_job_is_none(self) -> None:
        async with self.opened() as driver:
            assert await driver.get("unknown") is None

    async def test_all_fields_of_a_job_are_kept(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add(
                "a",
                command=("echo", "ü", "\n"),
                name="n",
                env={"A": "b"},
                cwd="/tmp",  # noqa: S108 - it is stored, not used
                stdin=b"\0\xff",
                timeout=1.5,
                pending_timeout=2,
                labels={"x": "y"},
                requires={"gpu": "yes"},
                key="k",
                grace=0.25,
            )
            running = await driver.start(await driver.assign(job))
            back = await driver.retry(running, due=7)
            assert await driver.get("a") == back

    # Select

    async def test_the_last_submitted_come_first(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            jobs = [await driver.add(name, priority=ord(name) % 2) for name in "abc"]
            await driver.finish(jobs[2])
            assert await selected(driver) == ["c", "b", "a"]

    async def test_states_are_alternatives(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            one, two, _ = [await driver.add(name) for name in "abc"]
            await driver.start(one)
            await driver.cancel(two)
            wanted = frozenset({JobState.RUNNING, JobState.CANCELLED})
            assert await selected(driver, states=wanted) == ["b", "a"]
            assert await selected(driver, states=frozenset()) == []

    async def test_all_labels_must_be_equal(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", labels={"x": "1", "y": "2"})
            await driver.add("b", labels={"x": "1"})
            await driver.add("c", labels={"x": "2"})
            assert await selected(driver, labels={"x": "1"}) == ["b", "a"]
            assert await selected(driver, labels={"x": "1", "y": "2"}) == ["a"]
            assert await selected(driver, labels={"z": "1"}) == []

    async def test_the_name_must_be_exact(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", name="build")
            await driver.add("b", name="build-2")
            await driver.add("c")
            assert await selected(driver, name="build") == ["a"]

    async def test_an_id_is_found_by_how_it_begins(self) -> None:
        async with self.opened() as driver:
            for name in ("ab12", "ab1%", "ab2", "Ab1"):
                await driver.add(name)
            assert await selected(driver, id_prefix="ab1") == ["ab1%", "ab12"]
            assert await selected(driver, id_prefix="ab1%") == ["ab1%"]
            assert await selected(driver, id_prefix="ab12") == ["ab12"]
            assert await selected(driver, id_prefix="ab123") == []

    async def test_every_condition_must_hold(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            for number, name in enumerate(("n", "n", "m", "n")):
                label = {"x": str(number % 2)}
                job = await driver.add(f"job-{number}", name=name, labels=label)
                if number:
                    await driver.assign(job)
            states = frozenset({JobState.ASSIGNED})
            found = await selected(driver, states=states, labels={"x": "1"}, name="n")
            assert found == ["job-3", "job-1"]

    async def test_pages_show_each_job_once_in_order(self) -> None:
        async with self.opened() as driver:
            names = [f"job-{number:02}" for number in range(25)]
            await driver.accept(*[submission(name, name="odd") for name in names])
            seen: list[str] = []
            last: JobId | None = None
            while page := await driver.store.jobs.select(
                JobFilter(name="odd"), limit=4, after=last
            ):
                assert len(page) <= 4
                seen += ids(page)
                last = page[-1].id
            assert seen == names[::-1]

    async def test_pages_of_several_states_show_each_job_once_in_order(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            names = [f"job-{number:02}" for number in range(24)]
            for number, name in enumerate(names):
                job = await driver.add(name)
                if number % 4 == 1:
                    await driver.cancel(job)
                elif number % 4 == 2:
                    await driver.finish(job)
                elif number % 4 == 3:
                    await driver.start(await driver.assign(job))
            for states, wanted in (
                ({JobState.CANCELLED, JobState.SUCCEEDED}, (1, 2)),
                ({JobState.CANCELLED, JobState.PENDING, JobState.RUNNING}, (0, 1, 3)),
                ({JobState.FAILED, JobState.TIMED_OUT}, ()),
                (set(JobState), (0, 1, 2, 3)),
            ):
                matching = JobFilter(states=frozenset(states))
                seen: list[str] = []
                last: JobId | None = None
                while page := await driver.store.jobs.select(matching, limit=5, after=last):
                    seen += ids(page)
                    last = page[-1].id
                found = [name for number, name in enumerate(names) if number % 4 in wanted]
                assert seen == found[::-1]

    async def test_a_page_may_follow_a_job_that_the_filter_leaves_out(self) -> None:
        async with self.opened() as driver:
            for name, label in (("a", "x"), ("b", "y"), ("c", "x")):
                await driver.add(name, name=label)
            jobs = await driver.store.jobs.select(JobFilter(name="x"), limit=None, after=JobId("b"))
            assert ids(jobs) == ["a"]

    async def test_a_page_after_an_unknown_job_is_refused(self) -> None:
        async with self.opened() as driver:
            await driver.add("a")
            await assert_not_found(driver, "unknown")

    async def test_a_page_after_a_pruned_job_is_refused(self) -> None:
        async with self.opened() as driver:
            await driver.cancel(await driver.add("a"))
            await driver.add("b")
            await driver.apply(Prune(at(100)))
            await assert_not_found(driver, "a")

    # Counts

    async def test_counts_name_every_state(self) -> None:
        async with self.opened() as driver:
            assert dict(await driver.store.jobs.counts()) == dict.fromkeys(JobState, 0)

    async def test_counts_equal_a_recount(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            chance = random.Random(1)  # noqa: S311 - repeatable, no secret
            for number in range(60):
                job = await driver.add(f"job-{number}", delay=chance.choice((None, 5)))
                if job.spec.delay is not None and chance.random() < 0.5:
                    continue
                moves = [driver.cancel, driver.assign, driver.start, driver.finish]
                job = await chance.choice(moves)(job)
                if job.state is JobState.RUNNING and chance.random() < 0.5:
                    await driver.retry(job, due=9)
                if number == 40:
                    await driver.apply(Prune(at(100)))
            jobs = await driver.store.jobs.select(JobFilter(), limit=None)
            recount = dict.fromkeys(JobState, 0)
            for job in jobs:
                recount[job.state] += 1
            assert dict(await driver.store.jobs.counts()) == recount
            assert all(recount[state] for state in (JobState.PENDING, JobState.RUNNING))

    # Values out

    async def test_what_came_out_cannot_change_what_is_stored(self) -> None:
        async with self.opened() as driver:
            job = await driver.add("a")
            assert_frozen(job)
            shown = await driver.store.jobs.select(JobFilter(), limit=None)
            shown.clear()
            waiting = await driver.store.queue.peek((await driver.store.queue.needs())[0], 5)
            waiting.clear()
            counts = await driver.store.jobs.counts()
            if isinstance(counts, dict):
                counts[JobState.PENDING] = 99
            assert await selected(driver) == ["a"]
            assert await driver.waiting() == ["a"]
            assert (await driver.store.jobs.counts())[JobState.PENDING] == 1

    # Prune

    async def test_final_jobs_that_finished_before_are_deleted(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("old"), seconds=10)
            await driver.finish(await driver.add("edge"), seconds=20)
            await driver.finish(await driver.add("new"), seconds=30)
            assert (await driver.apply(Prune(at(20)))).count == 1
            assert await selected(driver) == ["new", "edge"]
            assert await driver.get("old") is None
            assert (await driver.apply(Prune(at(20)))).count == 0

    async def test_a_slice_deletes_no_more_than_its_limit_and_says_whether_more_is_left(
        self,
    ) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            for name in ("a", "b", "c", "d", "e"):
                await driver.finish(await driver.add(name))
            await driver.finish(await driver.add("new"), seconds=500)
            slice_ = Prune(at(100), limit=2)
            outcomes = [await driver.apply(slice_) for _ in range(4)]
            told = [(outcome.count, outcome.more) for outcome in outcomes]
            assert told == [(2, True), (2, True), (1, False), (0, False)]
            assert await selected(driver) == ["new"]

    async def test_a_job_with_a_long_log_is_deleted_slice_by_slice(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.start(await driver.add("long"))
            for number in range(40):
                await driver.append(job, segment(number + 1, b"x" * 500_000))
            await driver.finish(job)
            outcome = await driver.apply(Prune(at(100), limit=1))
            while outcome.more:
                assert outcome.count == 0
                bounds = await driver.store.logs.bounds(job.id)
                left = await driver.store.logs.read(job.id, after=0, max_bytes=1)
                assert [one.first_seq for one in left] == [bounds.lost + 1]
                assert bounds.last == 40
                outcome = await driver.apply(Prune(at(100), limit=1))
            assert outcome.count == 1
            assert await driver.total() == 0

    async def test_jobs_that_have_not_ended_stay(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.add("pending")
            await driver.start(await driver.add("running"))
            await driver.retry(await driver.start(await driver.add("retried")), due=5)
            assert (await driver.apply(Prune(at(1_000)))).count == 0
            assert await driver.total() == 3

    async def test_logs_go_with_their_job(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.start(await driver.add("a"))
            await driver.append(job, segment(1, b"one\n"))
            await driver.finish(job)
            await driver.apply(Prune(at(100)))
            logs = driver.store.logs
            assert await logs.read(job.id, after=0, max_bytes=100) == []
            assert (await logs.bounds(job.id)).last == 0


async def assert_not_found(driver: StoreDriver, job_id: str) -> None:
    """Check that no page follows this job."""
    try:
        await driver.store.jobs.select(JobFilter(), limit=5, after=JobId(job_id))
    except JobNotFoundError as error:
        assert error.job_id == job_id  # noqa: PT017 - no test runner is imported here
    else:
        msg = f"a page after {job_id!r} was given"
        raise AssertionError(msg)


def assert_frozen(value: object) -> None:
    """Check that no field of a value can be set."""
    for field in attrs.fields(type(value)):  # type: ignore[arg-type]  # any attrs class
        try:
            setattr(value, field.name, None)
        except attrs.exceptions.FrozenInstanceError:
            continue
        msg = f"{field.name} of {type(value).__name__} can be set"
        raise AssertionError(msg)
