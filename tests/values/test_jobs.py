from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodei_core.ids import WorkerId
from hodei_core.jobs import Attempt, Job, Usage
from hodei_core.phases import Phase
from hodei_core.states import TRANSITIONS, JobState, Reason, WaitingFor
from tests.values.helpers import (
    JOB,
    NOW,
    WORKER,
    accepted,
    after,
    assert_frozen,
    deterministic,
    job_in,
    pickled,
    spec,
)

ALLOWED = {(row.source, row.target, reason) for row in TRANSITIONS for reason in row.reasons}
STATES = pytest.mark.parametrize("state", list(JobState), ids=lambda state: state.name)
USAGE = Usage(cpu=timedelta(seconds=1), max_rss_bytes=4096)


def test_a_job_that_was_just_accepted_waits_for_its_turn() -> None:
    job = accepted()
    assert job == Job(
        id=JOB,
        spec=spec(),
        seq=7,
        state=JobState.PENDING,
        waiting_for=WaitingFor.CAPACITY,
        version=1,
        submitted_at=NOW,
        due_at=NOW,
        retried_from=job.retried_from,
    )
    assert job.attempts == ()
    assert (job.started_at, job.finished_at, job.reason, job.exit_code) == (None,) * 4


def test_a_delayed_job_is_due_when_its_delay_is_over() -> None:
    job = accepted(delay=60)
    assert job.waiting_for is WaitingFor.DELAY
    assert job.due_at == after(60)
    assert accepted(delay=0).waiting_for is WaitingFor.CAPACITY


def test_the_longest_delay_gives_an_instant() -> None:
    assert accepted(delay=timedelta(days=36_525)).due_at.year == 2126


def test_an_assigned_job_has_an_open_attempt() -> None:
    job = accepted().assigned(WORKER, "local", after(1))
    assert job.state is JobState.ASSIGNED
    assert job.waiting_for is None
    assert job.version == 2
    assert job.attempts == (
        Attempt(number=1, worker_id=WORKER, provider="local", assigned_at=after(1)),
    )
    assert job.attempt is job.attempts[-1]


def test_a_job_without_attempts_has_no_last_one() -> None:
    with pytest.raises(IndexError):
        _ = accepted().attempt


def test_a_started_job_knows_when() -> None:
    job = job_in(JobState.ASSIGNED).started(after(2))
    assert job.state is JobState.RUNNING
    assert job.version == 3
    assert job.started_at == job.attempt.started_at == after(2)


def test_the_first_start_stays_the_start_of_the_job() -> None:
    job = job_in(JobState.RUNNING).to_retry(Reason.EXIT_CODE, at=after(3), due_at=after(4))
    again = job.assigned(WORKER, "local", after(5)).started(after(6))
    assert again.started_at == after(2)
    assert [attempt.started_at for attempt in again.attempts] == [after(2), after(6)]


def test_an_attempt_that_never_started_gives_its_number_back() -> None:
    job = job_in(JobState.ASSIGNED).returned("no descriptors", at=after(9), due_at=after(9))
    assert job.state is JobState.PENDING
    assert job.waiting_for is WaitingFor.BACKOFF
    assert job.attempts == ()
    assert job.due_at == after(9)
    assert job.returns == ("no descriptors",)
    assert job.version == 3
    again = job.assigned(WorkerId("other"), "local", after(10))
    assert again.attempt.number == 1
    assert again.attempt.worker_id == "other"


def test_returns_are_counted_until_an_attempt_starts() -> None:
    job = job_in(JobState.PENDING)
    for cause in ("a", "b", "c"):
        job = job.assigned(WORKER, "local", after(1)).returned(cause, at=after(2), due_at=after(2))
    assert job.returns == ("a", "b", "c")
    assigned = job.assigned(WORKER, "local", after(3))
    assert assigned.returns == ("a", "b", "c")
    assert assigned.started(after(4)).returns == ()


def test_a_return_leaves_earlier_attempts_alone() -> None:
    first = job_in(JobState.RUNNING).to_retry(Reason.EXIT_CODE, at=after(3), due_at=after(4))
    job = first.assigned(WORKER, "local", after(5)).returned("cause", at=after(6), due_at=after(6))
    assert job.attempts == first.attempts
    assert job.assigned(WORKER, "local", after(7)).attempt.number == 2


def test_a_retried_attempt_is_closed_and_the_job_carries_no_reason() -> None:
    job = job_in(JobState.RUNNING).to_retry(
        Reason.SIGNALLED, at=after(3), due_at=after(8), exit_code=139, usage=USAGE
    )
    assert job.state is JobState.PENDING
    assert job.waiting_for is WaitingFor.BACKOFF
    assert job.due_at == after(8)
    assert (job.reason, job.exit_code, job.finished_at) == (None,) * 3
    assert job.attempt == Attempt(
        number=1,
        worker_id=WORKER,
        provider="local",
        assigned_at=after(1),
        started_at=after(2),
        finished_at=after(3),
        reason=Reason.SIGNALLED,
        exit_code=139,
        usage=USAGE,
    )


def test_an_attempt_that_the_host_interrupted_keeps_its_number_and_does_not_count() -> None:
    job = job_in(JobState.RUNNING).to_retry(
        Reason.INTERRUPTED, at=after(3), due_at=after(3), uncounted=True
    )
    assert job.attempt.uncounted
    assert job.assigned(WORKER, "local", after(4)).attempt.number == 2


def test_a_start_that_failed_may_be_retried() -> None:
    job = job_in(JobState.ASSIGNED).to_retry(Reason.START_FAILED, at=after(2), due_at=after(3))
    assert job.attempt.started_at is None
    assert job.attempt.reason is Reason.START_FAILED
    assert job.started_at is None


def test_a_finished_job_and_its_attempt_say_how_it_ended() -> None:
    job = job_in(JobState.RUNNING).finished(
        JobState.FAILED,
        Reason.OUT_OF_MEMORY,
        at=after(5),
        message="the engine says so",
        exit_code=137,
        usage=USAGE,
    )
    assert job.state is JobState.FAILED
    assert job.reason is job.attempt.reason is Reason.OUT_OF_MEMORY
    assert job.exit_code == job.attempt.exit_code == 137
    assert job.finished_at == job.attempt.finished_at == after(5)
    assert job.attempt.usage == USAGE
    assert job.message == "the engine says so"
    assert job.version == 4


def test_a_success_has_no_reason() -> None:
    job = job_in(JobState.RUNNING).finished(JobState.SUCCEEDED, None, at=after(5), exit_code=0)
    assert job.reason is job.attempt.reason is None
    assert job.exit_code == job.attempt.exit_code == 0


def test_a_job_that_ends_while_it_waits_has_no_attempt() -> None:
    job = accepted().finished(JobState.CANCELLED, Reason.CANCELLED, at=after(1), message="why")
    assert job.attempts == ()
    assert job.waiting_for is None
    assert (job.exit_code, job.started_at) == (None, None)
    assert job.finished_at == after(1)


def test_a_job_that_ends_in_its_backoff_keeps_its_last_attempt_as_it_was() -> None:
    waiting = job_in(JobState.RUNNING).to_retry(
        Reason.EXIT_CODE, at=after(3), due_at=after(9), exit_code=3
    )
    job = waiting.finished(JobState.CANCELLED, Reason.CANCELLED, at=after(4))
    assert job.attempts == waiting.attempts
    assert job.exit_code == 3
    assert job.reason is Reason.CANCELLED


@STATES
def test_assigned_is_allowed_exactly_where_the_table_says(state: JobState) -> None:
    job = job_in(state)
    if (state, JobState.ASSIGNED, None) in ALLOWED:
        assert job.assigned(WORKER, "local", after(9)).state is JobState.ASSIGNED
    else:
        with pytest.raises(ValueError, match="cannot go"):
            job.assigned(WORKER, "local", after(9))


@STATES
def test_started_is_allowed_exactly_where_the_table_says(state: JobState) -> None:
    job = job_in(state)
    if (state, JobState.RUNNING, None) in ALLOWED:
        assert job.started(after(9)).state is JobState.RUNNING
    else:
        with pytest.raises(ValueError, match="cannot go"):
            job.started(after(9))


@STATES
def test_returned_is_allowed_exactly_where_the_table_says(state: JobState) -> None:
    job = job_in(state)
    if (state, JobState.PENDING, None) in ALLOWED:
        assert job.returned("cause", at=after(9), due_at=after(9)).state is JobState.PENDING
    else:
        with pytest.raises(ValueError, match="cannot go"):
            job.returned("cause", at=after(9), due_at=after(9))


@STATES
def test_to_retry_is_allowed_exactly_where_the_table_says(state: JobState) -> None:
    job = job_in(state)
    for reason in Reason:
        if (state, JobState.PENDING, reason) in ALLOWED:
            retried = job.to_retry(reason, at=after(9), due_at=after(10))
            assert retried.attempt.reason is reason
        else:
            with pytest.raises(ValueError, match="cannot go"):
                job.to_retry(reason, at=after(9), due_at=after(10))


@STATES
@pytest.mark.parametrize("end", list(JobState), ids=lambda state: state.name)
def test_finished_is_allowed_exactly_where_the_table_says(state: JobState, end: JobState) -> None:
    job = job_in(state)
    for reason in (None, *Reason):
        if end.is_final and (state, end, reason) in ALLOWED:
            assert job.finished(end, reason, at=after(9)).state is end
        else:
            with pytest.raises(ValueError, match="cannot"):
                job.finished(end, reason, at=after(9))


FULL: dict[str, Any] = {
    "version": 41,
    "seq": 17,
    "started_at": after(-9),
    "finished_at": after(-8),
    "message": "a message",
    "exit_code": 99,
    "returns": ("before",),
    "due_at": after(-7),
    "waiting_for": WaitingFor.PROVISIONING,
}
"""A value for each field, so that one that is forgotten in a change shows."""


def moves() -> list[tuple[Job, Job, dict[str, Any]]]:
    """Return jobs before and after each kind of change, and the fields that it sets."""
    pending = attrs.evolve(job_in(JobState.PENDING), **FULL)
    assigned = attrs.evolve(job_in(JobState.ASSIGNED), **FULL)
    running = attrs.evolve(job_in(JobState.RUNNING), **FULL)
    one = assigned.attempt
    opened = Attempt(number=1, worker_id=WORKER, provider="p", assigned_at=after(1))
    ended: dict[str, Any] = {
        "finished_at": after(3),
        "reason": Reason.EXIT_CODE,
        "exit_code": 1,
        "usage": USAGE,
    }
    closed = attrs.evolve(running.attempt, **ended)
    return [
        (
            pending,
            pending.assigned(WORKER, "p", after(1)),
            {"state": JobState.ASSIGNED, "waiting_for": None, "attempts": (opened,)},
        ),
        (
            assigned,
            assigned.started(after(2)),
            {
                "state": JobState.RUNNING,
                "attempts": (attrs.evolve(one, started_at=after(2)),),
                "returns": (),
            },
        ),
        (
            assigned,
            assigned.returned("again", at=after(4), due_at=after(4)),
            {
                "state": JobState.PENDING,
                "waiting_for": WaitingFor.BACKOFF,
                "attempts": (),
                "due_at": after(4),
                "returns": ("before", "again"),
                "phases": (
                    Phase(
                        JobState.ASSIGNED,
                        one.assigned_at,
                        after(4),
                        reason=f"on {one.worker_id}, which did not start it: again",
                    ),
                ),
            },
        ),
        (
            running,
            running.to_retry(
                Reason.EXIT_CODE, at=after(3), due_at=after(4), exit_code=1, usage=USAGE
            ),
            {
                "state": JobState.PENDING,
                "waiting_for": WaitingFor.BACKOFF,
                "attempts": (closed,),
                "due_at": after(4),
            },
        ),
        (
            running,
            running.finished(
                JobState.FAILED,
                Reason.EXIT_CODE,
                at=after(3),
                message="m",
                exit_code=1,
                usage=USAGE,
            ),
            {
                "state": JobState.FAILED,
                "waiting_for": None,
                "attempts": (closed,),
                "finished_at": after(3),
                "reason": Reason.EXIT_CODE,
                "message": "m",
                "exit_code": 1,
            },
        ),
    ]


@pytest.mark.parametrize(
    ("before", "now", "changes"),
    [pytest.param(*move, id=f"{move[0].state.name}-{move[1].state.name}") for move in moves()],
)
def test_a_change_sets_what_it_must_and_keeps_all_else(
    before: Job, now: Job, changes: dict[str, Any]
) -> None:
    assert now == attrs.evolve(before, version=before.version + 1, **changes)


@pytest.mark.parametrize(
    ("before", "now"),
    [pytest.param(*move[:2], id=move[1].state.name + str(n)) for n, move in enumerate(moves())],
)
def test_a_change_gives_a_new_frozen_value_and_leaves_the_old_one_alone(
    before: Job, now: Job
) -> None:
    assert type(now) is Job
    assert now is not before
    assert now.spec is before.spec
    assert before.version == 41
    assert pickled(now) == now
    assert hash(pickled(now)) == hash(now)
    assert repr(now).startswith("Job(id='a-job', spec=JobSpec(command='true'")
    assert_frozen(now)
    for attempt in now.attempts:
        assert type(attempt) is Attempt
        assert pickled(attempt) == attempt
        assert_frozen(attempt)


@pytest.mark.parametrize("cls", [Job, Attempt, Usage])
def test_a_value_of_which_there_are_many_has_neither_a_dict_nor_a_weak_reference(
    cls: type[object],
) -> None:
    assert "__dict__" not in dir(cls)
    assert "__weakref__" not in dir(cls)


def walk(job: Job, rng: random.Random, steps: int) -> list[Job]:
    """Return a job after each of some changes that the table allows, taken at random."""
    jobs = [job]
    for step in range(steps):
        rows = [row for row in TRANSITIONS if row.source is job.state]
        if not rows:
            break
        row = rng.choice(rows)
        reason = rng.choice(sorted(row.reasons, key=str))
        at = after(step)
        if row.target is JobState.ASSIGNED:
            job = job.assigned(WorkerId(f"w-{step}"), "local", at)
        elif row.target is JobState.RUNNING:
            job = job.started(at)
        elif row.target is not JobState.PENDING:
            job = job.finished(row.target, reason, at=at)
        elif reason is None:
            job = job.returned("cause", at=at, due_at=at)
        else:
            job = job.to_retry(reason, at=at, due_at=at)
        jobs.append(job)
    return jobs


@deterministic
@given(st.randoms(use_true_random=False), st.integers(0, 60))
def test_whatever_happens_a_job_keeps_its_promises(rng: random.Random, steps: int) -> None:
    jobs = walk(accepted(), rng, steps)
    for version, job in enumerate(jobs, start=1):
        assert job.version == version
        assert [attempt.number for attempt in job.attempts] == [
            number + 1 for number in range(len(job.attempts))
        ]
        is_open = [attempt.finished_at is None for attempt in job.attempts]
        assert not any(is_open[:-1])
        assert any(is_open) == (job.state in {JobState.ASSIGNED, JobState.RUNNING})
        assert (job.waiting_for is not None) == (job.state is JobState.PENDING)
        assert (job.finished_at is not None) == job.state.is_final
        assert (job.reason is not None) == (job.state.is_final and job.state.name != "SUCCEEDED")
        starts = [a.started_at for a in job.attempts if a.started_at is not None]
        assert job.started_at == (starts[0] if starts else None)
    for earlier, later in pairwise(jobs):
        assert earlier.started_at in {None, later.started_at}
        assert not earlier.state.is_final
