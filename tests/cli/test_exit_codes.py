from __future__ import annotations

import pytest

from hodei_core import JobSpec, JobState, Reason
from hodei_core.cli.exits import exit_code, in_words
from tests.cli.helpers import GRACEFUL, run
from tests.cli.results import make_result


@pytest.mark.parametrize("code", [0, 1, 3, 126, 255])
def test_the_exit_code_is_the_jobs(code: int) -> None:
    ended = run("run", f"exit {code}")
    assert (ended.code, ended.out, ended.err) == (code, b"", "")


@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("SEGV", 139), ("INT", 130)])
def test_a_job_ended_by_a_signal_leaves_128_and_its_number(signal: str, code: int) -> None:
    ended = run("run", f"kill -{signal} $$")
    assert ended.code == code
    assert ended.err == f"hodei: exit code {code}: ended by SIG{signal}\n"


def test_a_job_that_timed_out_leaves_124_whatever_its_own_code() -> None:
    ended = run("run", "--timeout", "200ms", GRACEFUL)
    assert (ended.code, ended.out) == (124, b"ready\nbye\n")
    assert ended.err == "hodei: the job was ended at its timeout of 0.2 s\n"


def test_a_program_that_is_missing_leaves_125_and_the_reason() -> None:
    ended = run("run", "no-such-program", "x")
    assert ended.code == 125
    assert ended.err.startswith("hodei: the job could not be started: ")
    assert "no-such-program" in ended.err


def test_a_directory_that_is_missing_leaves_125_and_the_reason() -> None:
    ended = run("run", "--cwd", "/no/such/directory", "true")
    assert ended.code == 125
    assert "/no/such/directory" in ended.err


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--cpus", "4096", "the job asks for 4096"),
        ("--memory", "1000TiB", "1000 TiB"),
        ("--image", "debian", "the job wants 'debian'"),
        ("--provider", "elsewhere", "elsewhere"),
        ("--require", "gpu=yes", "gpu"),
    ],
)
def test_a_job_that_nothing_can_run_leaves_125_and_the_reason(
    option: str, value: str, why: str
) -> None:
    ended = run("run", option, value, "true")
    assert ended.code == 125
    assert ended.err.startswith("hodei: the job cannot run here: ")
    assert why in ended.err


def test_the_job_runs_on_the_provider_that_is_named() -> None:
    assert run("run", "--provider", "local", "exit 5").code == 5


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.EXIT_CODE])
def test_every_reason_without_an_exit_code_leaves_125_and_words(reason: Reason) -> None:
    result = make_result(JobState.FAILED, reason, None)
    assert exit_code(result, None) == 125
    words = in_words(result, JobSpec("true"))
    assert words is not None
    assert words.endswith(": why")


def test_a_job_that_was_cancelled_but_not_by_us_leaves_125() -> None:
    assert exit_code(make_result(JobState.CANCELLED, Reason.CANCELLED, 143), None) == 125


def test_a_job_that_had_ended_before_ctrl_c_leaves_its_own_code() -> None:
    assert exit_code(make_result(JobState.SUCCEEDED, None, 0), 2) == 0
    assert exit_code(make_result(JobState.FAILED, Reason.EXIT_CODE, 3), 2) == 3
