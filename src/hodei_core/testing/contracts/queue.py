"""The suite of `JobQueue` and `MarkDue`: who is eligible, and in which order."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

import random

import anyio

from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.ports import MarkDue, Needs
from hodei_core.resources import Resources
from hodei_core.states import JobState, WaitingFor
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite, ids
from hodei_core.testing.contracts.samples import at


class QueueContract(StoreSuite):
    """Eligible jobs are shown by class, by priority, then in the order of submission."""

    # Who is eligible

    async def test_a_job_is_eligible_from_its_submission(self) -> None:
        async with self.opened() as driver:
            await driver.add("a")
            assert await driver.waiting() == ["a"]

    async def test_a_delayed_job_is_eligible_once_it_was_let_in(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", delay=10)
            assert await driver.mark_due(9.999) == []
            assert await driver.waiting() == []
            assert await driver.mark_due(10) == ["a"]
            assert await driver.waiting() == ["a"]

    async def test_nobody_is_eligible_by_the_passing_of_time_alone(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", delay=1)
            await driver.add("b", seconds=100)
            assert await driver.waiting() == ["b"]

    async def test_a_job_that_was_let_in_waits_for_capacity_and_keeps_its_version(self) -> None:
        async with self.opened() as driver:
            delayed = await driver.add("a", delay=10)
            (job,) = (await driver.apply(MarkDue(at(10)))).jobs
            assert job.waiting_for is WaitingFor.CAPACITY
            assert (job.version, job.due_at) == (delayed.version, delayed.due_at)
            assert await driver.get("a") == job

    async def test_a_job_is_let_in_once(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", delay=10)
            await driver.mark_due(10)
            assert await driver.mark_due(20) == []
            assert await driver.waiting() == ["a"]

    async def test_jobs_are_let_in_in_the_order_of_the_queue(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", delay=30)
            await driver.add("b", delay=10)
            await driver.add("c", delay=20, priority=1)
            assert await driver.mark_due(30) == ["c", "a", "b"]

    async def test_an_assigned_job_is_no_longer_eligible(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.assign(await driver.add("a"))
            assert await driver.waiting() == []
            await driver.start(job)
            assert await driver.waiting() == []

    async def test_a_job_that_was_ended_is_never_let_in(self) -> None:
        async with self.opened() as driver:
            await driver.cancel(await driver.add("a"))
            await driver.cancel(await driver.add("b", delay=5))
            assert await driver.mark_due(5) == []
            assert await driver.waiting() == []

    async def test_a_job_that_backs_off_is_eligible_when_that_is_over(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.retry(await driver.start(await driver.add("a")), due=50)
            assert await driver.waiting() == []
            assert await driver.mark_due(49) == []
            assert await driver.mark_due(50) == ["a"]
            assert await driver.waiting() == ["a"]

    # In which order

    async def test_higher_priorities_go_first_then_earlier_submissions(self) -> None:
        async with self.opened() as driver:
            for name, priority in zip("abcdef", (0, 5, -1, 5, 0, 7), strict=True):
                await driver.add(name, priority=priority)
            assert await driver.waiting() == ["f", "b", "d", "a", "e", "c"]

    async def test_a_job_that_comes_back_keeps_its_place(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            jobs = [await driver.add(name) for name in "abcd"]
            await driver.give_back(await driver.assign(jobs[1]), due=5)
            await driver.retry(await driver.start(jobs[2]), due=5)
            await driver.add("e")
            await driver.mark_due(5)
            assert await driver.waiting() == ["a", "b", "c", "d", "e"]

    async def test_a_job_may_come_back_again_and_again_behind_one_that_waits(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            first, second = await driver.add("a"), await driver.add("b")
            await driver.add("c")
            await driver.give_back(await driver.assign(first), due=5)
            for _ in range(3):
                back = await driver.give_back(await driver.assign(second), due=5)
                await driver.mark_due(5)
                second = back.due()
            assert await driver.waiting() == ["a", "b", "c"]

    async def test_peek_takes_nothing_and_shows_as_many_as_asked_for(self) -> None:
        async with self.opened() as driver:
            for name in "abc":
                await driver.add(name)
            assert await driver.waiting(limit=2) == ["a", "b"]
            assert await driver.waiting(limit=2) == ["a", "b"]
            assert await driver.waiting(limit=9) == ["a", "b", "c"]

    # Classes of needs

    async def test_jobs_are_in_one_class_if_they_need_the_same(self) -> None:
        async with self.opened() as driver:
            plain = await driver.add("a", name="one", labels={"x": "y"}, priority=4)
            await driver.add("b", name="two", env={"X": "1"})
            others = [
                await driver.add("c", resources=Resources(cpus=2)),
                await driver.add("d", resources=Resources(memory="1MiB")),
                await driver.add("e", image="debian"),
                await driver.add("f", requires={"gpu": "yes"}),
                await driver.add("g", provider="local"),
            ]
            assert await driver.waiting(plain) == ["a", "b"]
            for job in others:
                assert await driver.waiting(job) == [job.id]
            classes = await driver.store.queue.needs()
            assert len(classes) == 6
            assert set(classes) == {Needs.of(job.spec) for job in (plain, *others)}

    async def test_a_class_is_named_while_a_job_of_it_is_eligible(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            queue = driver.store.queue
            assert await queue.needs() == []
            await driver.add("a", image="later", delay=10)
            assert await queue.needs() == []
            await driver.mark_due(10)
            job = await driver.add("b")
            assert set(await queue.needs()) == {Needs(), Needs(image="later")}
            await driver.assign(job)
            assert await queue.needs() == [Needs(image="later")]

    async def test_a_class_that_nobody_is_in_is_empty(self) -> None:
        async with self.opened() as driver:
            assert await driver.store.queue.peek(Needs(image="none"), 10) == []

    # The place in the queue

    async def test_the_position_counts_the_jobs_ahead_in_the_class(self) -> None:
        async with self.opened() as driver:
            for name in "abc":
                await driver.add(name)
            await driver.add("other", image="debian")
            await driver.add("urgent", priority=1)
            queue = driver.store.queue
            places = [
                await queue.position(JobId(name)) for name in ("urgent", "a", "b", "c", "other")
            ]
            assert places == [0, 1, 2, 3, 0]

    async def test_the_position_leaves_out_what_has_left(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            jobs = [await driver.add(name) for name in "abcde"]
            await driver.assign(jobs[1])
            await driver.cancel(jobs[2])
            await driver.give_back(await driver.assign(jobs[0]), due=9)
            queue = driver.store.queue
            assert [await queue.position(JobId(name)) for name in "de"] == [0, 1]
            await driver.mark_due(9)
            assert [await queue.position(JobId(name)) for name in "ade"] == [0, 1, 2]

    async def test_only_eligible_jobs_have_a_position(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.add("waits")
            await driver.add("delayed", delay=5)
            await driver.assign(await driver.add("assigned"))
            await driver.cancel(await driver.add("ended"))
            queue = driver.store.queue
            for name in ("delayed", "assigned", "ended", "unknown"):
                assert await queue.position(JobId(name)) is None

    # Time

    async def test_the_next_due_is_the_earliest_of_those_not_let_in(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            queue = driver.store.queue
            assert await queue.next_due() is None
            await driver.add("plain")
            assert await queue.next_due() is None
            await driver.add("late", delay=30)
            await driver.add("early", delay=10)
            await driver.retry(await driver.start(await driver.add("retried")), due=20)
            for due in (10, 20, 30):
                assert await queue.next_due() == at(due)
                await driver.mark_due(due)
            assert await queue.next_due() is None

    async def test_a_delayed_job_that_was_ended_is_not_next(self) -> None:
        async with self.opened() as driver:
            await driver.cancel(await driver.add("a", delay=10))
            assert await driver.store.queue.next_due() is None
            job = await driver.add("b", delay=10)
            await driver.add("c", delay=20)
            await driver.cancel(job)
            assert await driver.store.queue.next_due() == at(20)

    async def test_overdue_shows_eligible_jobs_due_at_or_before_an_instant(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.add("delayed", delay=1)
            await driver.assign(await driver.add("assigned"))
            await driver.add("one", seconds=5)
            await driver.add("two", seconds=10)
            queue = driver.store.queue
            assert ids(await queue.overdue(at(4.999), None, 10)) == []
            assert ids(await queue.overdue(at(5), None, 10)) == ["one"]
            assert ids(await queue.overdue(at(99), None, 10)) == ["one", "two"]

    async def test_overdue_is_ordered_by_due_time_then_submission(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", delay=10)
            await driver.add("b", seconds=10)
            await driver.add("c", seconds=8)
            await driver.add("d", seconds=10, priority=9, image="debian")
            await driver.mark_due(10)
            assert ids(await driver.store.queue.overdue(at(10), None, 10)) == ["c", "a", "b", "d"]

    async def test_a_cursor_over_the_overdue_sees_each_once(self) -> None:
        async with self.opened() as driver:
            for number in range(20):
                await driver.add(f"delayed-{number}", delay=10)
                await driver.add(f"plain-{number}", seconds=10)
            await driver.mark_due(10)
            seen: list[str] = []
            after = None
            while jobs := await driver.store.queue.overdue(at(10), after, 3):
                assert len(jobs) <= 3
                seen += ids(jobs)
                after = (jobs[-1].due_at, jobs[-1].seq)
            assert sorted(seen) == sorted(set(seen))
            assert len(seen) == 40

    # All of it together

    async def test_the_queue_agrees_with_a_plain_model(self) -> None:
        for seed in range(5):
            async with self.opened() as driver:
                await _Model(driver, random.Random(seed)).check(steps=150)  # noqa: S311 - repeatable, no secret
                await anyio.sleep(0)


class _Model:
    """Random changes of a store, and what a sorted list says its queue must show."""

    def __init__(self, driver: StoreDriver, chance: random.Random) -> None:
        self._driver = driver
        self._chance = chance
        self._jobs: dict[JobId, Job] = {}
        self._now = 0

    async def check(self, steps: int) -> None:
        await self._driver.add_worker()
        for step in range(steps):
            await self._step(step)
            if step % 10 == 9:
                await self._compare()
        await self._compare()

    async def _step(self, step: int) -> None:
        chance, driver = self._chance, self._driver
        self._now += chance.randrange(3)
        pending = [job for job in self._jobs.values() if job.state is JobState.PENDING]
        taken = [job for job in self._jobs.values() if job.state is JobState.ASSIGNED]
        kind = chance.choice(("add", "add", "assign", "assign", "back", "end", "due"))
        if kind == "add":
            job = await driver.add(
                f"job-{step}",
                seconds=self._now,
                priority=chance.randrange(3),
                delay=chance.choice((None, None, 4)),
                image=chance.choice((None, None, "debian")),
            )
        elif kind == "assign" and any(map(_eligible, pending)):
            job = await driver.assign(chance.choice([job for job in pending if _eligible(job)]))
        elif kind == "back" and taken:
            job = await driver.give_back(chance.choice(taken), due=self._now + chance.randrange(4))
        elif kind == "end" and pending:
            job = await driver.cancel(chance.choice(pending), seconds=self._now)
        else:
            await self._mark_due()
            return
        self._jobs[job.id] = job

    async def _mark_due(self) -> None:
        came = await self._driver.mark_due(self._now)
        expected = [
            job.due()
            for job in self._jobs.values()
            if job.state is JobState.PENDING and not _eligible(job) and job.due_at <= at(self._now)
        ]
        assert came == ids(sorted(expected, key=_place))
        self._jobs.update({job.id: job for job in expected})

    async def _compare(self) -> None:
        queue = self._driver.store.queue
        eligible = sorted(filter(_eligible, self._jobs.values()), key=_place)
        by_class: dict[Needs, list[Job]] = {}
        for job in eligible:
            by_class.setdefault(Needs.of(job.spec), []).append(job)
        assert set(await queue.needs()) == set(by_class)
        for needs, jobs in by_class.items():
            assert await queue.peek(needs, 1_000) == jobs
            assert [await queue.position(job.id) for job in jobs] == list(range(len(jobs)))
        by_due = sorted(eligible, key=lambda job: (job.due_at, job.seq))
        assert await queue.overdue(at(self._now + 10), None, 1_000) == by_due
        later = [
            job.due_at
            for job in self._jobs.values()
            if job.state is JobState.PENDING and not _eligible(job)
        ]
        assert await queue.next_due() == min(later, default=None)


def _eligible(job: Job) -> bool:
    return job.state is JobState.PENDING and job.waiting_for is WaitingFor.CAPACITY


def _place(job: Job) -> tuple[int, int]:
    return (-job.spec.priority, job.seq)
