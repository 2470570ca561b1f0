"""The suite of `Advance` and `RequestCancel`: compare-and-set, slots, cancel requests."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

import anyio

from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import (
    Advance,
    CancelRequest,
    Outcome,
    PutWorker,
    RemoveWorker,
    RequestCancel,
)
from hodei_core.states import JobState
from hodei_core.testing.contracts.driver import StoreSuite, ids
from hodei_core.testing.contracts.samples import WORKER, at, submission, worker
from hodei_core.workers import WorkerState


def to_worker(job: Job, worker_id: str = WORKER) -> Advance:
    """Return the change that assigns a job."""
    return Advance(job.assigned(WorkerId(worker_id), "provider", at(1)), job.version)


def succeeded(job: Job) -> Job:
    """Return a running job at its good end."""
    return job.finished(JobState.SUCCEEDED, None, at=at(3), exit_code=0)


class AdvanceContract(StoreSuite):
    """A job is replaced by its next value, if nobody was faster."""

    async def test_a_job_is_replaced_if_its_version_is_the_expected_one(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a")
            for move in (driver.assign, driver.start, driver.finish):
                new = await move(job)
                assert new.version == job.version + 1
                assert await driver.get("a") == new
                job = new

    async def test_a_stale_writer_changes_nothing_and_is_shown_what_is_stored(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a")
            stored = await driver.start(job)
            outcome = await driver.try_move(job, job.assigned(WORKER, "provider", at(9)))
            assert outcome == Outcome(applied=False, jobs=(stored,))
            assert await driver.get("a") == stored

    async def test_a_final_job_is_not_replaced_by_a_late_writer(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            running = await driver.start(await driver.add("a"))
            final = await driver.finish(running)
            outcome = await driver.try_move(running, succeeded(running))
            assert outcome == Outcome(applied=False, jobs=(final,))

    async def test_an_unknown_job_is_not_stored(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = Job.accepted(id=JobId("x"), spec=submission("x").spec, seq=1, at=at(0))
            outcome = await driver.apply(to_worker(job))
            assert outcome == Outcome(applied=False)
            assert await driver.get("x") is None

    async def test_changes_see_those_in_front_of_them(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a")
            assigned = job.assigned(WORKER, "provider", at(1))
            running = assigned.started(at(2))
            outcomes = await driver.store.apply(
                [Advance(assigned, 1), Advance(running, 2), Advance(succeeded(running), 3)]
            )
            assert [outcome.applied for outcome in outcomes] == [True, True, True]
            assert await driver.get("a") == succeeded(running)

    async def test_two_steps_may_come_in_one_change(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            assigned = await driver.assign(await driver.add("a"))
            final = succeeded(assigned.started(at(2)))
            await driver.move(assigned, final)
            assert await driver.get("a") == final
            (shown,) = await driver.store.workers.select()
            assert shown.slots_used == 0

    async def test_of_two_changes_of_one_version_the_first_counts(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker("one")
            await driver.add_worker("two")
            job = await driver.add("a")
            first, second = await driver.store.apply([to_worker(job, "one"), to_worker(job, "two")])
            assert first.applied
            assert not second.applied
            (stored,) = second.jobs
            assert stored.attempt.worker_id == "one"
            used = {w.id: w.slots_used for w in await driver.store.workers.select()}
            assert used == {"one": 1, "two": 0}

    async def test_of_many_writers_at_once_exactly_one_wins(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a")
            outcomes: list[Outcome] = []

            async def write() -> None:
                outcomes.append(await driver.apply(to_worker(job)))

            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(write)
            assert sorted(outcome.applied for outcome in outcomes) == [False] * 19 + [True]
            (shown,) = await driver.store.workers.select()
            assert shown.slots_used == 1

    async def test_a_refused_change_leaves_the_others_alone(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            one, two = await driver.add("a"), await driver.add("b")
            stale = Advance(one.assigned(WORKER, "provider", at(1)), expected=7)
            refused, applied = await driver.store.apply([stale, to_worker(two)])
            assert (refused.applied, applied.applied) == (False, True)
            assert await driver.waiting() == ["a"]


class AssignmentContract(StoreSuite):
    """A job is assigned only to a worker that has a slot for it."""

    async def assert_refused(self, state: WorkerState | None) -> None:
        """Check that a worker in this state, or none at all, is given nothing."""
        async with self.opened() as driver:
            if state is not None:
                await driver.apply(PutWorker(worker(state=state)))
            job = await driver.add("a")
            outcome = await driver.apply(to_worker(job))
            assert outcome == Outcome(applied=False, jobs=(job,))
            assert await driver.get("a") == job
            assert await driver.waiting() == ["a"]

    async def test_a_worker_that_is_not_registered_is_given_nothing(self) -> None:
        await self.assert_refused(None)

    async def test_a_draining_worker_is_given_nothing(self) -> None:
        await self.assert_refused(WorkerState.DRAINING)

    async def test_a_worker_that_is_not_there_yet_is_given_nothing(self) -> None:
        await self.assert_refused(WorkerState.PROVISIONING)

    async def test_a_worker_that_is_going_or_gone_is_given_nothing(self) -> None:
        for state in (WorkerState.TERMINATING, WorkerState.TERMINATED, WorkerState.LOST):
            await self.assert_refused(state)

    async def test_a_removed_worker_is_given_nothing(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a")
            removed, refused = await driver.store.apply([RemoveWorker(WORKER), to_worker(job)])
            assert (removed.applied, refused.applied) == (True, False)

    async def test_no_more_jobs_are_assigned_than_there_are_slots(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker(slots=2)
            jobs = [await driver.add(name) for name in "abc"]
            outcomes = await driver.store.apply([to_worker(job) for job in jobs])
            assert [outcome.applied for outcome in outcomes] == [True, True, False]
            assert outcomes[2].jobs == (jobs[2],)
            assert await driver.waiting() == ["c"]

    async def test_a_slot_freed_in_a_change_serves_the_next(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker(slots=1)
            first, second = await driver.add("a"), await driver.add("b")
            running = await driver.start(first)
            ended, assigned = await driver.store.apply(
                [Advance(succeeded(running), running.version), to_worker(second)]
            )
            assert (ended.applied, assigned.applied) == (True, True)

    async def test_a_job_that_comes_back_frees_its_slot(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker(slots=1)
            first, second = await driver.add("a"), await driver.add("b")
            await driver.give_back(await driver.assign(first), due=9)
            running = await driver.start(second)
            await driver.retry(running, due=9)
            (shown,) = await driver.store.workers.select()
            assert shown.slots_used == 0

    async def test_a_worker_that_drains_keeps_what_it_has(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker(slots=2)
            running = await driver.start(await driver.add("a"))
            await driver.apply(PutWorker(worker(slots=2, state=WorkerState.DRAINING)))
            await driver.finish(running)
            (shown,) = await driver.store.workers.select()
            assert (shown.state, shown.slots_used) == (WorkerState.DRAINING, 0)


class CancelContract(StoreSuite):
    """A cancel request is stored with the job, and told to whoever moves it."""

    async def test_the_request_is_told_at_each_move_until_the_end(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a")
            request = CancelRequest(at=at(0), reason="enough")
            await driver.request_cancel(job, reason="enough")
            assigned = job.assigned(WORKER, "provider", at(1))
            running = assigned.started(at(2))
            for new in (assigned, running, succeeded(running)):
                outcome = await driver.try_move(job, new)
                assert outcome == Outcome(cancel=request)
                job = new

    async def test_a_change_may_be_refused_for_the_sake_of_a_request(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            running = await driver.start(await driver.add("a"))
            other = await driver.start(await driver.add("b"))
            await driver.request_cancel(running, reason="enough")
            final = succeeded(running)
            outcome = await driver.apply(Advance(final, running.version, unless_cancelled=True))
            request = CancelRequest(at=at(0), reason="enough")
            assert outcome == Outcome(applied=False, jobs=(running,), cancel=request)
            assert await driver.get(running) == running
            assert (await driver.apply(Advance(final, running.version))).applied
            change = Advance(succeeded(other), other.version, unless_cancelled=True)
            assert (await driver.apply(change)).applied

    async def test_a_job_that_nobody_wants_to_end_has_no_request(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            one, two = await driver.add("a"), await driver.add("b")
            await driver.request_cancel(one)
            assert (await driver.apply(to_worker(two))).cancel is None

    async def test_a_request_outlasts_a_retry(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            running = await driver.start(await driver.add("a"))
            await driver.request_cancel(running, reason="enough")
            back = await driver.retry(running, due=9)
            await driver.mark_due(9)
            outcome = await driver.apply(to_worker(back))
            assert outcome.cancel == CancelRequest(at=at(0), reason="enough")

    async def test_the_first_request_stays(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a")
            await driver.request_cancel(job, reason="first")
            await driver.request_cancel(job, reason="second")
            outcome = await driver.apply(to_worker(job))
            assert outcome.cancel == CancelRequest(at=at(0), reason="first")

    async def test_the_answer_shows_each_job_as_it_is_stored(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            one, two = await driver.add("a"), await driver.add("b")
            final = await driver.finish(await driver.add("c"))
            running = await driver.start(two)
            outcome = await driver.request_cancel(final, two, one)
            assert outcome == Outcome(jobs=(final, running, one))

    async def test_unknown_jobs_are_left_out(self) -> None:
        async with self.opened() as driver:
            job = await driver.add("a")
            request = CancelRequest(at=at(0))
            outcome = await driver.apply(RequestCancel((JobId("x"), job.id), request))
            assert ids(outcome.jobs) == ["a"]

    async def test_a_request_changes_nothing_of_the_job(self) -> None:
        async with self.opened() as driver:
            job = await driver.add("a")
            await driver.request_cancel(job)
            assert await driver.get("a") == job
            assert await driver.waiting() == ["a"]
