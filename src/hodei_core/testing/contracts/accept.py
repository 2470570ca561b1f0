"""The suite of `Accept`: what is stored, idempotency keys, the bound of what waits."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs

from hodei_core.errors import KeyConflictError, QueueFullError
from hodei_core.ids import WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import Accept, Outcome, Prune, PutWorker, Submission
from hodei_core.states import JobState, WaitingFor
from hodei_core.testing.contracts.driver import StoreSuite, ids
from hodei_core.testing.contracts.samples import WORKER, at, submission, worker
from hodei_core.workers import WorkerState


def assert_conflict(outcome: Outcome, *, key: str, holder: str) -> None:
    """Check that an acceptance was refused because of a key."""
    assert not outcome.applied
    assert isinstance(outcome.error, KeyConflictError)
    assert (outcome.error.key, outcome.error.job_id) == (key, holder)
    assert outcome.jobs == ()


def assert_full(outcome: Outcome, *, max_pending: int) -> None:
    """Check that an acceptance was refused because too many jobs wait."""
    assert not outcome.applied
    assert isinstance(outcome.error, QueueFullError)
    assert outcome.error.max_pending == max_pending
    assert outcome.jobs == ()


def beginning(job_id: str, worker_id: str = WORKER, **fields: Any) -> Submission:
    """Return a request for a job whose first attempt is to begin at once."""
    asked = submission(job_id, **fields)
    assigned = asked.job(0).assigned(WorkerId(worker_id), "provider", at(1))
    return attrs.evolve(asked, attempt=assigned.attempt)


class AcceptContract(StoreSuite):
    """New jobs are stored, all of a change or none."""

    async def test_an_accepted_job_is_stored_as_it_was_asked_for(self) -> None:
        async with self.opened() as driver:
            asked = submission("a", seconds=5, name="n", priority=3, retried_from="old")
            outcome = await driver.accept(asked)
            (job,) = outcome.jobs
            expected = Job.accepted(
                id=asked.id, spec=asked.spec, seq=job.seq, at=at(5), retried_from=asked.retried_from
            )
            assert outcome == Outcome(jobs=(expected,), new=(True,))
            assert await driver.get("a") == expected

    async def test_jobs_are_numbered_in_the_order_of_their_submission(self) -> None:
        async with self.opened() as driver:
            first = await driver.accept(submission("z"), submission("a"))
            second = await driver.accept(submission("m"))
            numbers = [job.seq for job in (*first.jobs, *second.jobs)]
            assert numbers == sorted(set(numbers))
            assert ids(first.jobs) == ["z", "a"]

    async def test_a_delayed_job_is_due_after_its_delay(self) -> None:
        async with self.opened() as driver:
            job = await driver.add("a", seconds=10, delay=timedelta(seconds=5))
            assert job.due_at == at(15)
            assert job.waiting_for is WaitingFor.DELAY

    async def test_a_known_key_with_the_same_work_yields_the_first_job(self) -> None:
        async with self.opened() as driver:
            first = await driver.add("a", key="k", command="make")
            again = submission("b", key="k", command="make", priority=9, delay=5, labels={"x": "y"})
            outcome = await driver.accept(again)
            assert outcome == Outcome(jobs=(first,), new=(False,))
            assert await driver.get("b") is None
            assert await driver.total() == 1

    async def test_a_known_key_yields_its_job_whatever_the_state(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.add("a", key="k")
            for move in (driver.assign, driver.start, driver.finish):
                job = await move(job)
                outcome = await driver.accept(submission("b", key="k"))
                assert outcome == Outcome(jobs=(job,), new=(False,))

    async def test_a_known_key_with_other_work_is_refused(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", key="k", command="make")
            outcome = await driver.accept(submission("b", key="k", command="make clean"))
            assert_conflict(outcome, key="k", holder="a")
            assert await driver.total() == 1

    async def test_one_conflict_refuses_every_job_of_the_change(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", key="k", command="make")
            outcome = await driver.accept(
                submission("b"), submission("c", key="k", command="other"), submission("d")
            )
            assert_conflict(outcome, key="k", holder="a")
            assert await driver.total() == 1
            assert await driver.waiting() == ["a"]

    async def test_a_refused_acceptance_leaves_the_other_changes_alone(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", key="k", command="make")
            refused = Accept((submission("b", key="k", command="other"),))
            before, middle, after = await driver.store.apply(
                [Accept((submission("c"),)), refused, Accept((submission("d"),))]
            )
            assert (before.applied, middle.applied, after.applied) == (True, False, True)
            assert await driver.waiting() == ["a", "c", "d"]

    async def test_a_key_given_twice_in_one_change_makes_one_job(self) -> None:
        async with self.opened() as driver:
            outcome = await driver.accept(
                submission("a", key="k"), submission("b"), submission("c", key="k")
            )
            assert ids(outcome.jobs) == ["a", "b", "a"]
            assert outcome.new == (True, True, False)
            assert await driver.total() == 2

    async def test_a_key_given_to_two_different_jobs_of_one_change_refuses_both(self) -> None:
        async with self.opened() as driver:
            outcome = await driver.accept(
                submission("a", key="k", command="make"), submission("b", key="k", command="other")
            )
            assert_conflict(outcome, key="k", holder="a")
            assert await driver.total() == 0

    async def test_jobs_without_a_key_are_never_the_same(self) -> None:
        async with self.opened() as driver:
            outcome = await driver.accept(submission("a"), submission("b"))
            assert outcome.new == (True, True)

    async def test_a_key_is_free_again_once_its_job_is_pruned(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("a", key="k", command="make"))
            await driver.apply(Prune(at(100)))
            await driver.add("b", key="k", command="other")

    # Those that begin at once

    async def test_a_job_with_an_attempt_is_stored_as_assigned(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            asked = beginning("a", name="n", priority=3, pending_timeout=60)
            outcome = await driver.accept(asked)
            expected = asked.begun(asked.job(outcome.jobs[0].seq))
            assert outcome == Outcome(jobs=(expected,), new=(True,))
            assert (expected.state, expected.version) == (JobState.ASSIGNED, 2)
            assert await driver.get("a") == expected
            assert await driver.waiting(expected) == []
            counts = await driver.store.jobs.counts()
            assert (counts[JobState.PENDING], counts[JobState.ASSIGNED]) == (0, 1)
            (shown,) = await driver.store.workers.select()
            assert (shown.slots_used, shown.jobs) == (1, ("a",))
            assert (await driver.finish(expected)).state is JobState.SUCCEEDED
            assert (await driver.store.workers.select())[0].slots_used == 0

    async def test_a_job_whose_worker_takes_no_more_waits(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker(slots=1)
            await driver.apply(PutWorker(worker("leaving", state=WorkerState.DRAINING)))
            outcome = await driver.accept(
                beginning("a"), beginning("b"), beginning("c", "leaving"), beginning("d", "unknown")
            )
            assert outcome.new == (True,) * 4
            assert [job.state for job in outcome.jobs[1:]] == [JobState.PENDING] * 3
            assert outcome.jobs[0].state is JobState.ASSIGNED
            assert await driver.waiting() == ["b", "c", "d"]
            used = {w.id: w.slots_used for w in await driver.store.workers.select()}
            assert used == {WORKER: 1, "leaving": 0}
            assert (await driver.get("b")) == beginning("b").job(outcome.jobs[1].seq)

    async def test_a_job_that_is_refused_or_known_holds_no_slot(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            first = await driver.add("a", key="k", command="make")
            known = await driver.accept(beginning("b", key="k", command="make"))
            assert known == Outcome(jobs=(first,), new=(False,))
            conflict = await driver.accept(beginning("c", key="k", command="other"))
            assert_conflict(conflict, key="k", holder="a")
            assert_full(await driver.accept(beginning("d"), max_pending=1), max_pending=1)
            assert (await driver.store.workers.select())[0].slots_used == 0
            assert await driver.total() == 1

    # Retries: the new job takes the key over

    async def test_a_retry_takes_over_the_key(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("a", key="k"))
            outcome = await driver.accept(submission("b", key="k", retried_from="a"))
            assert outcome.new == (True,)
            assert outcome.jobs[0].retried_from == "a"
            later = await driver.accept(submission("c", key="k"))
            assert ids(later.jobs) == ["b"]

    async def test_the_key_stays_with_the_retry_when_the_first_job_is_pruned(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("a", key="k"))
            await driver.accept(submission("b", key="k", retried_from="a"))
            assert (await driver.apply(Prune(at(100)))).count == 1
            assert ids((await driver.accept(submission("c", key="k"))).jobs) == ["b"]

    async def test_a_retry_is_refused_while_a_job_that_has_not_ended_holds_the_key(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("a", key="k"))
            await driver.accept(submission("b", key="k", retried_from="a"))
            outcome = await driver.accept(submission("c", key="k", retried_from="a"))
            assert_conflict(outcome, key="k", holder="b")
            assert await driver.total() == 2

    async def test_a_retry_takes_the_key_from_another_job_that_has_ended(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("a", key="k"))
            (second,) = (await driver.accept(submission("b", key="k", retried_from="a"))).jobs
            await driver.finish(second)
            outcome = await driver.accept(submission("c", key="k", retried_from="a"))
            assert outcome.new == (True,)

    async def test_two_retries_of_one_key_in_one_change_are_refused(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("a", key="k"))
            outcome = await driver.accept(
                submission("b", key="k", retried_from="a"),
                submission("c", key="k", retried_from="a"),
            )
            assert_conflict(outcome, key="k", holder="b")
            assert await driver.total() == 1

    async def test_a_key_taken_over_is_the_retry_s_for_those_behind_it_in_the_change(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.finish(await driver.add("a", key="k"))
            outcome = await driver.accept(
                submission("b", key="k"),
                submission("c", key="k", retried_from="a"),
                submission("d", key="k"),
            )
            assert ids(outcome.jobs) == ["a", "c", "c"]
            assert outcome.new == (False, True, False)

    # The bound of what waits

    async def test_a_full_queue_refuses_new_jobs(self) -> None:
        async with self.opened() as driver:
            await driver.add("a")
            outcome = await driver.accept(submission("b"), max_pending=1)
            assert_full(outcome, max_pending=1)
            assert await driver.waiting() == ["a"]

    async def test_new_jobs_are_taken_up_to_the_bound(self) -> None:
        async with self.opened() as driver:
            await driver.add("a")
            outcome = await driver.accept(submission("b"), submission("c"), max_pending=3)
            assert outcome.new == (True, True)

    async def test_jobs_beyond_the_bound_refuse_the_whole_change(self) -> None:
        async with self.opened() as driver:
            await driver.add("a")
            outcome = await driver.accept(submission("b"), submission("c"), max_pending=2)
            assert_full(outcome, max_pending=2)
            assert await driver.total() == 1

    async def test_a_full_queue_still_answers_a_known_key(self) -> None:
        async with self.opened() as driver:
            await driver.add("a", key="k")
            await driver.add("b")
            outcome = await driver.accept(submission("c", key="k"), max_pending=1)
            assert ids(outcome.jobs) == ["a"]
            assert outcome.error is None

    async def test_a_key_given_twice_counts_once(self) -> None:
        async with self.opened() as driver:
            outcome = await driver.accept(
                submission("a", key="k"), submission("b", key="k"), max_pending=1
            )
            assert outcome.new == (True, False)

    async def test_delayed_jobs_count_and_assigned_ones_do_not(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.add("a", delay=60)
            job = await driver.add("b")
            assert_full(await driver.accept(submission("c"), max_pending=2), max_pending=2)
            await driver.assign(job)
            assert (await driver.accept(submission("c"), max_pending=2)).new == (True,)
            counts = await driver.store.jobs.counts()
            assert counts[JobState.PENDING] == 2
