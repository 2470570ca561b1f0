from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hodei_core.cli.program import hodei
from tests.cli.helpers import run

READING = [
    ["job", "list"],
    ["job", "get", "abcd"],
    ["job", "logs", "abcd"],
    ["job", "cancel", "abcd"],
    ["job", "explain", "abcd"],
    ["job", "retry", "abcd"],
    ["job", "prune", "--older-than", "1d"],
    ["workers"],
    ["stats"],
]


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HODEI_STORE", raising=False)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(hodei, arguments)


@pytest.mark.parametrize("command", [*READING, ["host"]], ids=" ".join)
def test_without_a_store_a_command_says_how_to_give_one(command: list[str]) -> None:
    result = invoke(*command)
    assert result.exit_code == 2
    assert "name its file by --store, as --store jobs.db, or set HODEI_STORE" in result.output


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_file_that_does_not_exist_is_refused_and_not_made(
    command: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "none.db"
    result = invoke(*command, "--store", str(file))
    assert result.exit_code == 2
    assert f"'--store': '{file}' does not exist" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_an_empty_file_is_refused_and_stays_empty(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "empty.db"
    file.touch()
    result = invoke(*command, "--store", str(file))
    assert result.exit_code == 2
    assert f"'--store': '{file}' is empty, and no store yet" in result.output
    assert (list(tmp_path.iterdir()), file.stat().st_size) == ([file], 0)


@pytest.mark.parametrize("command", [["stats"], ["host"]], ids=" ".join)
def test_a_path_that_cannot_be_looked_at_is_refused(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / ("long" * 100) / "jobs.db"
    result = invoke(*command, "--store", str(file))
    assert result.exit_code == 2
    assert f"'--store': '{file}': File name too long" in result.output


@pytest.mark.parametrize("command", [["host"], ["run", "true"]], ids=" ".join)
def test_a_folder_that_does_not_exist_is_named(command: list[str], tmp_path: Path) -> None:
    result = invoke(command[0], "--store", str(tmp_path / "no" / "jobs.db"), *command[1:])
    assert result.exit_code == 2
    assert "does not exist" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memory://", "'memory://' is no store of several programs"),
        ("postgres://x/y", "'postgres://x/y' is no store of several programs"),
        ("sqlite://jobs.db", "'sqlite://jobs.db' lacks a slash; write a path, or sqlite:///PATH"),
        ("sqlite:///", "'sqlite:///' names no file"),
    ],
)
def test_a_text_that_names_no_file_is_refused(text: str, message: str) -> None:
    result = invoke("stats", "--store", text)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("command", ["get", "logs", "cancel", "explain", "retry"])
def test_an_id_of_three_characters_is_too_short(command: str) -> None:
    result = invoke("job", command, "abc")
    assert result.exit_code == 2
    assert "'abc' is too short: write at least 4 characters of an id" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["job", "list", "--state", "done"], "'--state': 'done' is not one of 'pending'"),
        (["job", "list", "--label", "a"], "'--label': 'a' has no '='"),
        (["job", "list", "--limit", "0"], "'--limit': 0 is not in the range"),
        (["job", "logs", "--tail", "-1", "abcd"], "'--tail': -1 is not in the range"),
        (["job", "logs", "--source", "system", "abcd"], "'--source': 'system' is not one of"),
        (["job", "cancel"], "Missing argument 'ID...'"),
        (["job", "prune"], "Missing option '--older-than'"),
        (["job", "prune", "--older-than", "-1d"], "'--older-than': must be 0 or more"),
        (["job", "prune", "--older-than", "9999999d"], "'--older-than': must be 0 or more and at"),
        (["job", "list", "--limit", "9" * 20], "'--limit': 99999999999999999999 is not in the"),
        (["job", "logs", "--tail", "9" * 20, "x"], "'--tail': 99999999999999999999 is not in the"),
        (["job", "logs", "--after", "9" * 20, "x"], "'--after': 99999999999999999999 is not in"),
        (["host", "--shutdown-timeout", "9" * 11], "'--shutdown-timeout': must be 0 or more and"),
        (["host", "--slots", "99999"], "'--slots': 99999 is not in the range"),
        (["host", "--slots", "0"], "'--slots': 0 is not in the range"),
        (["host", "--provider", "moon"], "'--provider': 'moon' is not 'local'"),
        (["host", "--shutdown-timeout", "-1"], "'--shutdown-timeout': must be 0 or more"),
        (["run", "--detach", "true"], "'--detach' leaves the job in a store"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_a_bad_option_is_named(arguments: list[str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(b"looked at last")
    store = [] if arguments[0] == "run" else ["--store", str(file)]
    result = invoke(*arguments, *store)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())


def test_tail_and_after_do_not_go_together(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(b"looked at last")
    result = invoke("job", "logs", "abcd", "--tail", "1", "--after", "1", "--store", str(file))
    assert result.exit_code == 2
    assert "'--tail' and '--after' do not go together" in result.output


def test_what_is_no_store_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    file.write_bytes(b"no database at all" * 100)
    for arguments in (["stats"], ["host"]):
        ended = run(*arguments, "--store", str(file))
        assert (ended.code, ended.out) == (1, b"")
        assert ended.err.startswith("hodei: ")
        assert str(file) in ended.err
        assert ended.err.count("\n") == 1
    assert file.read_bytes() == b"no database at all" * 100


def test_a_file_of_another_program_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    connection = sqlite3.connect(file)
    connection.execute("create table a (b)")
    connection.commit()
    connection.close()
    ended = run("run", "--store", str(file), "true")
    assert (ended.code, ended.out, ended.err.count("\n")) == (125, b"", 1)
    assert "another program" in ended.err


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    ended = run("stats", "--store", str(tmp_path))
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, b"", 1)


def test_the_variable_names_the_store(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    environment = {**os.environ, "HODEI_STORE": f"sqlite:///{file}"}
    assert run("run", "echo hello", env=environment).out == b"hello\n"
    assert run("job", "list", "--format", "json", env=environment).objects[0]["state"] == (
        "succeeded"
    )
