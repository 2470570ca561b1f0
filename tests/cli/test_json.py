from __future__ import annotations

import base64
from datetime import datetime

import attrs

from hodei_core import JobResult, LogEntry
from tests.cli.helpers import JOB_ID, run


def test_each_log_entry_is_an_object_and_then_the_result() -> None:
    ended = run("run", "--format", "json", "--name", "n", "echo out; exit 3")
    log, result = ended.objects
    assert (ended.code, ended.err) == (3, "")
    assert JOB_ID.fullmatch(log["job_id"])
    assert datetime.fromisoformat(log["at"]).tzinfo is not None
    assert {name: log[name] for name in log if name not in ("job_id", "at")} == {
        "type": "log",
        "attempt": 1,
        "seq": 1,
        "source": "stdout",
        "text": "out",
        "newline": True,
        "base64": None,
        "partial": False,
        "lost": 0,
    }
    (attempt,) = result["attempts"]
    assert {name: value for name, value in result.items() if not _varies(name)} == {
        "type": "result",
        "job_id": log["job_id"],
        "name": "n",
        "command": "echo out; exit 3",
        "state": "failed",
        "reason": "exit_code",
        "message": None,
        "exit_code": 3,
    }
    assert datetime.fromisoformat(result["submitted_at"]) <= datetime.fromisoformat(
        result["started_at"]
    )
    assert 0 < result["seconds"] < 30
    assert attempt["number"] == 1
    assert attempt["provider"] == "local"
    assert (attempt["reason"], attempt["exit_code"]) == ("exit_code", 3)
    assert attempt["max_rss_bytes"] > 0
    assert attempt["cpu_seconds"] >= 0


def _varies(name: str) -> bool:
    return name.endswith("_at") or name in ("seconds", "attempts")


def test_the_objects_name_what_the_values_hold() -> None:
    """All but what repeats the entries before it, or is called otherwise."""
    log, result = run("run", "--format", "json", "echo x").objects
    assert {field.name for field in attrs.fields(LogEntry)} - {"data"} <= log.keys()
    fields = {field.name for field in attrs.fields(JobResult)}
    assert fields - {"stdout", "stderr", "truncated"} <= result.keys()


def test_both_sources_come_as_objects_in_their_order() -> None:
    command = "echo a; sleep 0.2; echo b >&2; sleep 0.2; echo c"
    objects = run("run", "--format", "json", command).objects[:-1]
    assert [(o["seq"], o["source"], o["text"]) for o in objects] == [
        (1, "stdout", "a"),
        (2, "stderr", "b"),
        (3, "stdout", "c"),
    ]


def test_bytes_that_are_no_text_come_in_base64() -> None:
    whole, rest, _ = run("run", "--format", "json", r"printf '\377\n'; printf end").objects
    assert base64.b64decode(whole["base64"]) == b"\xff"
    assert whole["newline"]
    assert (rest["text"], rest["newline"], rest["base64"]) == ("end", False, None)


def test_the_pieces_of_a_long_line_are_marked() -> None:
    objects = run("run", "--format", "json", "head -c 70000 /dev/zero | tr '\\0' x; echo").objects
    assert [(len(o["text"]), o["partial"]) for o in objects[:-1]] == [
        (65536, True),
        (70000 - 65536, False),
    ]


def test_argv_is_a_list() -> None:
    assert run("run", "--format", "json", "echo", "é").objects[-1]["command"] == ["echo", "é"]


def test_job_run_prints_the_same_objects() -> None:
    log, result = run("job", "run", "--format", "json", "--command", "echo x").objects
    assert (log["type"], result["type"]) == ("log", "result")


def test_a_job_that_never_started_has_a_result() -> None:
    (result,) = run("run", "--format", "json", "--cpus", "4096", "true").objects
    assert (result["state"], result["reason"]) == ("failed", "unschedulable")
    assert (result["exit_code"], result["started_at"], result["seconds"]) == (None, None, None)
