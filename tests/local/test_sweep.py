"""What the sweep takes for a job's: looked at only, since a mistake would kill strangers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hodei_core.backends.local import guard
from hodei_core.backends.local.sweep import Lost, start_time

MARKS = {"HODEI_HOST": "h", "HODEI_JOB_ID": "j"}


def lost(**facts: object) -> Lost:
    known = {"host_id": "h", "job_ids": frozenset({"j"}), "leaders": frozenset(), "since": 1}
    return Lost(**(known | facts))  # type: ignore[arg-type]


@contextmanager
def process(env: dict[str, str]) -> Iterator[int]:
    with subprocess.Popen(["/bin/sleep", "300"], env=env, start_new_session=True) as child:
        try:
            yield child.pid
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (MARKS, True),
        ({}, False),
        ({"HODEI_JOB_ID": "j"}, False),
        (MARKS | {"HODEI_HOST": "other"}, False),
        (MARKS | {"HODEI_JOB_ID": "other"}, False),
        ({"HODEI_OUTER_JOBS": "a:j:b"}, True),
        ({"HODEI_OUTER_JOBS": "a:jj"}, False),
        ({"HODEI_OUTER_JOBS": ""}, False),
    ],
)
def test_only_what_carries_the_marks_of_a_job_is_the_jobs(
    env: dict[str, str], expected: bool
) -> None:
    with process(env) as pid:
        assert told(pid) is expected


def told(pid: int) -> bool:
    """Return whether a process is a job's, once that can be told: it may be in its exec yet."""
    deadline = time.monotonic() + 10
    while (ours := lost().owns(pid)) is None:
        assert time.monotonic() < deadline
    return ours


@contextmanager
def one_program_after_the_other() -> Iterator[int]:
    again = 'exec /bin/sh -c "$0" "$0"'
    with subprocess.Popen(["/bin/sh", "-c", again, again], env=MARKS) as child:
        try:
            yield child.pid
        finally:
            child.kill()


def test_what_becomes_another_program_is_never_taken_for_a_stranger() -> None:
    with one_program_after_the_other() as pid:
        answers = {lost().owns(pid) for _ in range(10_000)}
    assert True in answers
    assert False not in answers


def test_the_guard_never_takes_it_for_a_stranger_either() -> None:
    with one_program_after_the_other() as pid:
        found = [guard.marks_of(pid) for _ in range(10_000)]
    assert {b"HODEI_HOST": b"h", b"HODEI_JOB_ID": b"j"} in found
    assert {} not in found


def test_what_is_in_the_session_of_a_known_leader_is_the_jobs() -> None:
    with process({}) as pid:
        assert lost(leaders=frozenset({pid})).owns(pid)


def test_what_started_before_the_guard_is_no_jobs_whatever_it_carries() -> None:
    with process(MARKS) as pid:
        later = start_time(pid) + 1
        assert not lost(since=later, leaders=frozenset({pid})).owns(pid)


def test_an_empty_id_matches_nothing() -> None:
    nothing = lost(host_id="", job_ids=frozenset({""}))
    with process({"HODEI_OUTER_JOBS": "", "HODEI_HOST": "", "HODEI_JOB_ID": ""}) as pid:
        assert not nothing.owns(pid)
    owned = [
        int(name) for name in os.listdir("/proc") if name.isdigit() and nothing.owns(int(name))
    ]
    assert owned == []


def test_neither_the_host_nor_what_is_gone_is_a_jobs() -> None:
    everything = lost(leaders=frozenset({os.getsid(0)}))
    assert not everything.owns(os.getpid())
    with process(MARKS) as pid:
        pass
    assert not lost().owns(pid)
    assert start_time(pid) == 0
