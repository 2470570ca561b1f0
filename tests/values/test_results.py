from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from hodei_core.errors import JobFailedError
from hodei_core.results import JobResult, make_result
from hodei_core.states import JobState, Reason
from tests.values.helpers import accepted, after, assert_frozen, job_in, pickled


def result(state: JobState = JobState.FAILED, **changes: Any) -> JobResult:
    made = make_result(job_in(state), stdout="out", stderr="err", truncated=True)
    return attrs.evolve(made, **changes)


def message(**changes: Any) -> str:
    with pytest.raises(JobFailedError) as caught:
        result(**changes).check()
    return str(caught.value)


def test_a_result_tells_what_the_job_holds() -> None:
    job = job_in(JobState.FAILED)
    made = make_result(job, stdout="out", stderr="err", truncated=True)
    assert made == JobResult(
        job_id=job.id,
        name=None,
        command="true",
        state=JobState.FAILED,
        reason=Reason.EXIT_CODE,
        message=None,
        exit_code=1,
        attempts=job.attempts,
        submitted_at=job.submitted_at,
        started_at=after(2),
        finished_at=after(3),
        stdout="out",
        stderr="err",
        truncated=True,
    )


def test_a_result_is_made_of_a_final_job_only() -> None:
    with pytest.raises(AssertionError):
        make_result(job_in(JobState.RUNNING), stdout="", stderr="", truncated=False)


@pytest.mark.parametrize("state", [s for s in JobState if s.is_final], ids=lambda s: s.name)
def test_only_success_is_ok(state: JobState) -> None:
    made = result(state)
    assert made.ok is (state is JobState.SUCCEEDED)
    if made.ok:
        assert made.check() is made
    else:
        with pytest.raises(JobFailedError) as caught:
            made.check()
        assert caught.value.result is made
        assert pickled(caught.value).result == made


def test_the_duration_counts_from_the_first_start_to_the_end() -> None:
    assert result().duration == timedelta(seconds=1)


def test_a_job_that_never_started_has_no_duration() -> None:
    job = accepted().finished(JobState.CANCELLED, Reason.CANCELLED, at=after(5))
    assert make_result(job, stdout="", stderr="", truncated=False).duration is None


def test_the_message_shows_job_end_code_and_command() -> None:
    assert message(command="make all", stderr="") == (
        "job a-job ended FAILED (EXIT_CODE), exit code 1: make all"
    )


def test_the_message_shows_an_argument_vector_as_a_shell_would_read_it() -> None:
    assert message(command=("echo", "two words", "$x"), stderr="").endswith(
        ": echo 'two words' '$x'"
    )


def test_the_message_leaves_out_an_exit_code_that_is_not_there() -> None:
    text = message(exit_code=None, reason=Reason.START_FAILED, message="no such program", stderr="")
    assert text == "job a-job ended FAILED (START_FAILED): true\nno such program"


def test_the_message_shows_the_last_20_lines_of_stderr() -> None:
    stderr = "".join(f"line {n}\n" for n in range(30))
    lines = message(stderr=stderr).split("\n")
    assert lines[1:] == [f"line {n}" for n in range(10, 30)]


def test_the_message_shows_an_unfinished_last_line() -> None:
    stderr = "".join(f"line {n}\n" for n in range(20)) + "end"
    lines = message(stderr=stderr).split("\n")
    assert lines[1:] == [*(f"line {n}" for n in range(1, 20)), "end"]


def test_the_message_keeps_empty_lines() -> None:
    assert message(stderr="a\n\nb\n").split("\n")[1:] == ["a", "", "b"]


def test_lines_in_the_message_end_at_newlines_and_nowhere_else() -> None:
    progress = "\r".join(f"{n} %" for n in range(100)) + "\u2028\x0b\x0c\x85end"
    assert message(stderr=f"first\n{progress}\n").split("\n")[1:] == ["first", progress]


def test_the_repr_leaves_out_what_is_bulky() -> None:
    text = repr(result(stdout="X" * 1000, stderr="Y" * 1000))
    assert "X" not in text.replace("EXIT_CODE", "")
    assert "Y" not in text
    assert "attempts" not in text
    assert "exit_code=1" in text


def test_a_result_is_a_value() -> None:
    made = result()
    assert pickled(made) == made
    assert hash(pickled(made)) == hash(made)
    assert_frozen(made)
