"""What is shown of the jobs of a store, where no host is."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.helpers import HODEI, JOB_ID, run
from tests.cli.hosts import detached, in_terminal, job, listed

LONG = "echo " + "a long command " * 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which two jobs have ended and two wait."""
    file = tmp_path_factory.mktemp("lists") / "jobs.db"
    assert run("run", "--store", str(file), "--name", "good", "echo out; echo err >&2").code == 0
    labels = ("--label", "team=a", "--label", "kind=x")
    bad = run("run", "--store", str(file), "--name", "bad", *labels, "exit 3")
    assert bad.code == 3
    detached(file, "--name", "later", "--label", "team=a", "--delay", "1h", LONG)
    detached(file, "--delay", "1h", "--", "printf", "a\tb\x1b[31m", "日本語")
    return file


def found(store: Path, *conditions: str) -> list[str]:
    return listed(run("job", "list", "--store", str(store), "--format", "json", *conditions))


def id_of(store: Path, name: str) -> str:
    """Return the id of the one job of a name."""
    ended = run("job", "list", "--store", str(store), "--format", "json", "--name", name)
    return str(ended.objects[0]["job_id"])


def test_jobs_are_listed_newest_first(store: Path) -> None:
    assert found(store) == [None, "later", "bad", "good"]


def test_jobs_are_found_by_state_label_and_name(store: Path) -> None:
    assert found(store, "--state", "failed") == ["bad"]
    assert found(store, "--state", "FAILED", "--state", "succeeded") == ["bad", "good"]
    assert found(store, "--label", "team=a") == ["later", "bad"]
    assert found(store, "--label", "team=a", "--label", "kind=x") == ["bad"]
    assert found(store, "--name", "good") == ["good"]
    assert found(store, "--name", "nobody") == []


def test_a_list_comes_page_by_page(store: Path) -> None:
    first = run("job", "list", "--store", str(store), "--limit", "2")
    assert len(first.out.splitlines()) == 3
    (last,) = re.findall(r"there are more: --after (\S+)", first.err)
    assert JOB_ID.fullmatch(last)
    second = run("job", "list", "--store", str(store), "--limit", "2", "--after", last)
    assert [line.split()[-1] for line in second.out.decode().splitlines()[1:]] == ["bad", "good"]
    assert second.err == ""


def test_where_there_is_no_terminal_nothing_is_cut_or_coloured(store: Path) -> None:
    text = run("job", "list", "--store", str(store)).out.decode()
    lines = text.splitlines()
    assert lines[0].split() == ["ID", "STATE", "AGE", "TOOK", "WHY", "JOB"]
    assert len(lines) == 5
    assert all(JOB_ID.match(line) for line in lines[1:])
    assert "\t" not in text
    assert "\x1b" not in text
    assert "…" not in text
    assert lines[1].endswith(r"printf 'a\tb\x1b[31m' '日本語'")
    assert run("job", "get", "--store", str(store), id_of(store, "later")).out.count(LONG.encode())


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_table_fits_the_terminal(store: Path, columns: int) -> None:
    code, shown = in_terminal(columns, "job", "list", "--store", str(store), NO_COLOR="1")
    assert code == 0
    lines = shown.splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= columns
    assert all(re.match(r"[0-9a-f]{8}  ", line) for line in lines[1:])
    assert ("WHY" in lines[0]) == (columns >= 72)
    assert lines[3].endswith("bad")


def test_states_have_colours_in_a_terminal_alone(store: Path) -> None:
    arguments = ("job", "list", "--store", str(store))
    assert "\x1b[31mFAILED " in in_terminal(80, *arguments)[1]
    assert "\x1b" not in in_terminal(80, *arguments, NO_COLOR="1")[1]
    assert "\x1b" not in in_terminal(80, *arguments, TERM="dumb")[1]


def test_a_job_is_found_by_the_beginning_of_its_id(store: Path) -> None:
    whole = id_of(store, "good")
    for text in (whole, whole[:8], whole[:20].upper()):
        assert job(store, text)["job_id"] == whole


def test_an_unknown_job_is_named(store: Path) -> None:
    for text in ("zzzz", "00000000-0000-4000-8000-000000000000"):
        ended = run("job", "get", "--store", str(store), text)
        assert (ended.code, ended.out, ended.err) == (1, b"", f"hodei: no job {text!r}\n")


def test_a_beginning_of_several_ids_names_them(tmp_path: Path) -> None:
    from hodei_core.cli.asking import LEAST_DIGITS

    file = tmp_path / "jobs.db"
    known: dict[str, str] = {}
    script = f"""
import anyio
from hodei_core import Hodei
async def main():
    async with Hodei({str(file)!r}, providers=[]) as hodei:
        for job in await hodei.submit_many(["true"] * 2000):
            print(job.id)
anyio.run(main)
"""
    done = subprocess.run([HODEI[0], "-c", script], capture_output=True, check=True, text=True)
    for job_id in done.stdout.split():
        twin = known.setdefault(job_id[:LEAST_DIGITS], job_id)
        if twin != job_id:
            ended = run("job", "get", "--store", str(file), job_id[:LEAST_DIGITS])
            assert (ended.code, ended.out) == (1, b"")
            assert "is the beginning of several ids" in ended.err
            assert twin in ended.err
            assert job_id in ended.err
            return
    pytest.fail("of 2000 ids no two begin alike")


def test_a_job_is_shown_with_its_attempts(store: Path) -> None:
    text = run("job", "get", "--store", str(store), id_of(store, "bad")).out.decode()
    assert re.search(r"^name +bad$", text, re.MULTILINE)
    assert re.search(r"^state +FAILED \(exit 3\)$", text, re.MULTILINE)
    assert re.search(r"^labels +team=a kind=x$", text, re.MULTILINE)
    assert re.search(r"^ +1  local-\w+  +\S+s +3  EXIT_CODE", text, re.MULTILINE)


def test_nothing_of_the_environment_or_the_input_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    (tmp_path / "input").write_text("hidden-input")
    options = ("--env", "TOKEN=hidden-token", "--stdin", str(tmp_path / "input"))
    job_id = detached(file, *options, "--delay", "1h", "true")
    for form in ("text", "json"):
        for command in ("get", "explain"):
            ended = run("job", command, "--store", str(file), "--format", form, job_id)
            assert ended.code == 0
            assert b"hidden" not in ended.out


def test_logs_come_out_byte_for_byte_by_source(store: Path) -> None:
    ended = run("job", "logs", "--store", str(store), id_of(store, "good"))
    assert (ended.code, ended.out, ended.err) == (0, b"out\n", "err\n")


def test_logs_keep_odd_bytes(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    printed = bytes(range(256))
    (tmp_path / "data").write_bytes(printed)
    ended = run("run", "--store", str(file), "--name", "odd", f"cat {tmp_path / 'data'}")
    assert (ended.code, ended.out) == (0, printed)
    again = run("job", "logs", "--store", str(file), id_of(file, "odd"))
    assert (again.code, again.out, again.err) == (0, printed, "")


def test_logs_are_chosen_by_source_number_and_tail(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    run("run", "--store", str(file), "--name", "n", "seq 5; echo err >&2")
    arguments = ("job", "logs", "--store", str(file), id_of(file, "n"))
    assert run(*arguments, "--tail", "2", "--source", "stdout").out == b"4\n5\n"
    assert run(*arguments, "--source", "stderr").err == "err\n"
    assert run(*arguments, "--source", "stderr").out == b""
    assert run(*arguments, "--no-follow").out == b"1\n2\n3\n4\n5\n"
    entries = run(*arguments, "--format", "json").objects
    assert [entry["seq"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert {entry["type"] for entry in entries} == {"log"}
    after = run(*arguments, "--format", "json", "--after", "4").objects
    assert [entry["seq"] for entry in after] == [5, 6]


def test_logs_of_a_job_that_waits_are_empty_if_they_are_not_followed(store: Path) -> None:
    ended = run("job", "logs", "--no-follow", "--store", str(store), id_of(store, "later"))
    assert (ended.code, ended.out, ended.err) == (0, b"", "")


def test_a_job_is_explained(store: Path) -> None:
    job_id = id_of(store, "later")
    text = run("job", "explain", "--store", str(store), job_id[:8])
    assert text.code == 0
    assert text.out.startswith(b"It is PENDING: ")
    (fields,) = run("job", "explain", "--store", str(store), "--format", "json", job_id).objects
    assert (fields["type"], fields["job_id"], fields["state"]) == ("explanation", job_id, "pending")
    assert fields["history"][0]["phase"] == "delay"


def test_a_job_that_has_not_ended_is_not_retried(store: Path) -> None:
    ended = run("job", "retry", "--store", str(store), id_of(store, "later"))
    assert (ended.code, ended.out) == (1, b"")
    assert "only a job that has ended can be retried" in ended.err


def test_counts_name_every_state(store: Path) -> None:
    (fields,) = run("stats", "--store", str(store), "--format", "json").objects
    assert (fields["type"], fields["hosts"], fields["pending"]) == ("stats", 0, 2)
    assert fields["jobs"] == {
        "pending": 2,
        "assigned": 0,
        "running": 0,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 0,
        "timed_out": 0,
    }
    assert re.search(rb"^jobs FAILED +1$", run("stats", "--store", str(store)).out, re.MULTILINE)


def test_without_a_host_there_are_no_workers(store: Path) -> None:
    ended = run("workers", "--store", str(store), "--format", "json")
    assert (ended.code, ended.out) == (0, b"")


def test_a_reader_that_leaves_ends_the_program(store: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*HODEI, "job", "list", "--store", str(store)],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_what_has_ended_is_pruned_with_its_logs(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    run("run", "--store", str(file), "--name", "old", "echo x")
    waiting = detached(file, "--name", "waits", "--delay", "1h", "true")
    assert run("job", "prune", "--store", str(file), "--older-than", "1h").out == b"0\n"
    ended = run("job", "prune", "--store", str(file), "--older-than", "0", "--format", "json")
    assert ended.objects == [{"type": "pruned", "jobs": 1}]
    assert found(file) == ["waits"]
    assert job(file, waiting)["state"] == "pending"
