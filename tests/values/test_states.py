from __future__ import annotations

import pickle
from enum import Enum
from itertools import product

import pytest

from hodei_core.states import (
    FINAL_STATES,
    TRANSITIONS,
    JobState,
    Reason,
    WaitingFor,
    check_transition,
)
from hodei_core.workers import WorkerState
from tests.values.helpers import assert_frozen, run_python

PENDING, ASSIGNED, RUNNING = JobState.PENDING, JobState.ASSIGNED, JobState.RUNNING

R = Reason
ENDS = {R.EXIT_CODE, R.SIGNALLED, R.OUT_OF_MEMORY, R.WORKER_LOST, R.INTERRUPTED}
CONTRACT: dict[tuple[JobState, JobState], set[Reason | None]] = {
    (PENDING, ASSIGNED): {None},
    (PENDING, JobState.CANCELLED): {R.CANCELLED, R.INTERRUPTED},
    (PENDING, JobState.FAILED): {
        R.PENDING_TIMEOUT,
        R.UNSCHEDULABLE,
        R.PROVISION_FAILED,
        R.START_FAILED,  # ten free returns in a row
    },
    (ASSIGNED, RUNNING): {None},
    (ASSIGNED, JobState.CANCELLED): {R.CANCELLED},
    (ASSIGNED, JobState.FAILED): {R.START_FAILED, R.WORKER_LOST, R.POISON},
    (ASSIGNED, PENDING): {None, R.START_FAILED, R.WORKER_LOST},
    (RUNNING, JobState.SUCCEEDED): {None},
    (RUNNING, JobState.FAILED): {*ENDS, R.POISON},
    (RUNNING, JobState.TIMED_OUT): {R.TIMEOUT},
    (RUNNING, JobState.CANCELLED): {R.CANCELLED},
    (RUNNING, PENDING): {*ENDS, R.TIMEOUT},
}
"""The rules of states, written out once more."""

REASONS: list[Reason | None] = [None, *Reason]
ALLOWED = {(row.source, row.target, reason) for row in TRANSITIONS for reason in row.reasons}


def test_the_table_holds_the_changes_of_the_contract_and_no_other() -> None:
    assert len(TRANSITIONS) == len(CONTRACT)
    assert {(row.source, row.target): row.reasons for row in TRANSITIONS} == CONTRACT


@pytest.mark.parametrize("source", list(JobState), ids=lambda state: state.name)
@pytest.mark.parametrize("target", list(JobState), ids=lambda state: state.name)
def test_a_change_is_allowed_exactly_where_the_table_says(
    source: JobState, target: JobState
) -> None:
    for reason in REASONS:
        if (source, target, reason) in ALLOWED:
            check_transition(source, target, reason)
        else:
            with pytest.raises(ValueError, match=f"from {source.name} to {target.name}"):
                check_transition(source, target, reason)


@pytest.mark.parametrize("state", sorted(FINAL_STATES, key=str), ids=lambda state: state.name)
def test_a_final_state_has_no_way_out(state: JobState) -> None:
    assert state.is_final
    assert not [row for row in TRANSITIONS if row.source is state]


@pytest.mark.parametrize("state", [PENDING, ASSIGNED, RUNNING], ids=lambda state: state.name)
def test_each_other_state_has_ways_out_and_each_row_can_be_shown(state: JobState) -> None:
    assert not state.is_final
    rows = [row for row in TRANSITIONS if row.source is state]
    assert rows
    for row in rows:
        assert row.reasons
        assert row.mover in {"dispatcher", "worker"}
        assert row.event
        assert row.deadline
        assert_frozen(row)


@pytest.mark.parametrize("state", list(JobState), ids=lambda state: state.name)
def test_each_state_can_be_reached(state: JobState) -> None:
    assert state is PENDING or any(row.target is state for row in TRANSITIONS)


def test_each_non_final_state_leads_to_an_end_when_somebody_asks_for_it() -> None:
    for state in (PENDING, ASSIGNED, RUNNING):
        check_transition(state, JobState.CANCELLED, Reason.CANCELLED)


def test_success_carries_no_reason_and_every_other_end_carries_one() -> None:
    for row in TRANSITIONS:
        if row.target is JobState.SUCCEEDED:
            assert row.reasons == {None}
        elif row.target.is_final:
            assert None not in row.reasons


def test_a_timeout_and_no_other_reason_ends_timed_out() -> None:
    ends = {(target, reason) for _, target, reason in ALLOWED if target.is_final}
    assert {target for target, reason in ends if reason is Reason.TIMEOUT} == {JobState.TIMED_OUT}
    assert {reason for target, reason in ends if target is JobState.TIMED_OUT} == {Reason.TIMEOUT}


def test_a_cancelled_or_poisonous_job_never_comes_back() -> None:
    back = {reason for _, target, reason in ALLOWED if target is PENDING}
    assert not back & {Reason.CANCELLED, Reason.POISON}


def test_only_an_assigned_job_comes_back_without_a_reason() -> None:
    assert {s for s, target, reason in ALLOWED if target is PENDING and reason is None} == {
        ASSIGNED
    }


def test_each_reason_can_end_a_job() -> None:
    assert {reason for _, target, reason in ALLOWED if target.is_final} == {None, *Reason}


def test_the_final_states_are_those_of_the_contract() -> None:
    assert {state.name for state in JobState if state.is_final} == {
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "TIMED_OUT",
    }


@pytest.mark.parametrize("enum", [JobState, WaitingFor, Reason, WorkerState])
def test_a_stored_value_is_the_name_in_small_letters(
    enum: type[Enum],
) -> None:
    for member in enum:
        assert member.value == member.name.lower()
        assert enum(member.value) is member
        assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize(
    ("enum", "names"),
    [
        (JobState, "PENDING ASSIGNED RUNNING SUCCEEDED FAILED CANCELLED TIMED_OUT"),
        (WorkerState, "PROVISIONING READY BUSY DRAINING TERMINATING TERMINATED LOST"),
        (WaitingFor, "DELAY BACKOFF CAPACITY PROVISIONING DRAIN"),
        (
            Reason,
            (
                "EXIT_CODE SIGNALLED OUT_OF_MEMORY START_FAILED TIMEOUT PENDING_TIMEOUT CANCELLED "
                "INTERRUPTED WORKER_LOST POISON PROVISION_FAILED UNSCHEDULABLE"
            ),
        ),
    ],
)
def test_the_members_are_those_of_the_contract(enum: type[Enum], names: str) -> None:
    assert " ".join(member.name for member in enum) == names


def test_a_set_of_members_is_still_one_in_another_process() -> None:
    script = (
        "import pickle, sys\n"
        "from hodei_core.states import JobState, Reason\n"
        "states, reasons = pickle.loads(sys.stdin.buffer.read())\n"
        "print(JobState.FAILED in states, states[JobState.FAILED], Reason.POISON in reasons)"
    )
    data = pickle.dumps(({JobState.FAILED: 1}, frozenset(Reason)))
    assert run_python(script, data=data, hash_seed=9).split() == [b"True", b"1", b"True"]


def test_no_two_members_have_one_hash() -> None:
    assert len({hash(member) for member in [*JobState, *Reason]}) == len(JobState) + len(Reason)
    assert all((a == b) == (a is b) for a, b in product(JobState, repeat=2))
