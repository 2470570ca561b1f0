from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.helpers import Program, run


def test_one_word_is_a_text_for_a_shell() -> None:
    assert run("run", "echo a-b | tr - _; echo $((1 + 2))").out == b"a_b\n3\n"


def test_several_words_are_arguments_that_no_shell_sees() -> None:
    assert run("run", "printf", "%s,", "a b", "$HOME", "|").out == b"a b,$HOME,|,"


def test_two_dashes_only_end_our_options() -> None:
    assert run("run", "--", "echo $((1 + 2))").out == b"3\n"
    assert run("run", "--", "echo", "--timeout", "5").out == b"--timeout 5\n"


def test_options_after_the_first_word_belong_to_the_command() -> None:
    assert run("run", "printf", "%s", "--help").out == b"--help"


def test_an_argument_that_is_no_utf8_reaches_the_command() -> None:
    assert run("run", "printf", "%s", os.fsdecode(b"\xff\xfe")).out == b"\xff\xfe"


def test_the_jobs_output_comes_out_byte_for_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000 + b"\n\n" + b"x" * 200_000 + b"\r\nno newline at the end"
    source = tmp_path / "data"
    source.write_bytes(data)
    assert run("run", "cat", str(source)).out == data


def test_the_jobs_standard_error_comes_out_apart() -> None:
    ended = run("run", "echo out; echo err >&2")
    assert (ended.out, ended.err) == (b"out\n", "err\n")


def test_a_line_comes_out_while_the_job_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with Program("run", f"echo one; until [ -e {go} ]; do sleep 0.01; done; echo two") as program:
        assert program.line() == b"one\n"
        assert program.left()
        go.touch()
        assert program.end().out == b"two\n"


def test_the_job_gets_what_env_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "ours")
    command = "echo $GIVEN $OURS"
    assert run("run", "--env", "GIVEN=a=b", "--env", "OURS", command).out == b"a=b ours\n"


def test_other_variables_do_not_reach_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    assert run("run", "echo [$TOKEN]").out == b"[]\n"


def test_the_job_runs_in_cwd(tmp_path: Path) -> None:
    assert run("run", "--cwd", str(tmp_path), "pwd").out == f"{tmp_path}\n".encode()


def test_the_job_runs_in_our_directory_unless_told_otherwise(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.path.abspath("src")}
    assert run("run", "pwd", cwd=tmp_path, env=environment).out == f"{tmp_path}\n".encode()


def test_the_input_is_empty_unless_told_otherwise() -> None:
    assert run("run", "cat; echo end", input=b"ours\n").out == b"end\n"


def test_the_input_may_be_a_file(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_bytes(b"\0\xff no newline")
    assert run("run", "--stdin", str(source), "cat").out == b"\0\xff no newline"


def test_the_input_may_be_our_own() -> None:
    assert run("run", "--stdin", "-", "cat", input=b"\0\xff\n").out == b"\0\xff\n"


def test_the_shell_may_be_another() -> None:
    assert run("run", "--shell", "bash -euo pipefail -c", "false | true; echo on").code == 1


def test_a_job_that_fails_is_tried_again(tmp_path: Path) -> None:
    command = f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) = 3 ] && echo done"
    ended = run("run", "--max-attempts", "3", "--backoff", "10ms", command)
    assert (ended.code, ended.out) == (0, b"done\n")
    assert ended.err == (
        "hodei: attempt 1 failed (EXIT_CODE); the next follows in 0.0 s\n"
        "hodei: attempt 2 failed (EXIT_CODE); the next follows in 0.0 s\n"
    )


def test_attempts_that_all_fail_are_counted() -> None:
    ended = run("run", "--max-attempts", "2", "--backoff", "10ms", "exit 7")
    assert ended.code == 7
    assert ended.err.endswith("hodei: exit code 7; gave up after 2 attempts\n")


def test_a_message_starts_a_line_of_its_own() -> None:
    ended = run("run", "printf unfinished >&2; kill -9 $$")
    assert ended.err == "unfinished\nhodei: exit code 137: ended by SIGKILL\n"


def test_the_job_ends_when_the_reader_of_its_output_has_gone() -> None:
    with Program("run", "setsid setsid yes & sleep 1000") as program:
        assert program.line() == b"y\n"
        program.stdout.close()
        program.process.wait(30)
        assert program.process.returncode == 141
        assert program.stderr.read() == b""
        assert program.left() == []


def test_output_that_cannot_be_written_ends_the_job() -> None:
    with (
        open("/dev/full", "wb") as full,
        Program("run", "echo x; sleep 1000", stdout=full) as program,
    ):
        ended = program.end()
        assert ended.code == 125
        assert ended.err == "hodei: the output cannot be written: No space left on device\n"
        assert program.left() == []


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_obstacle(closed: str) -> None:
    through = ("sh", "-c", f'exec "$@" {closed}', "sh")
    with Program("run", "echo out; echo err >&2; exit 4", through=through) as program:
        ended = program.end()
        assert ended.code == 4
        assert ended.out == (b"" if " >&-" in f" {closed}" else b"out\n")
        assert ended.err == ("" if "2>&-" in closed else "err\n")
