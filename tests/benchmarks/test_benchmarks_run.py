from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_rows_are_printed_as_json_with_floor_and_targets() -> None:
    ended = benchmarks("noop", "processes", "--quick", "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["failed"] == {}
    assert report["seconds"].keys() == {"noop", "processes"}
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert list(figures) == ["noop.run", "noop.submit_many", "processes.2", "processes.8"]
    for figure in figures.values():
        assert figure["unit"].startswith("jobs/s")
        assert figure["floor"] > 0
        assert figure["ours"] > 0
        assert figure["value"] > 0
        assert figure["first"] < figure["end"]
        assert figure["reached"] in {"end", "first", "no"}


def test_a_row_is_printed_as_a_table_with_a_note_below() -> None:
    ended = benchmarks("readers", "--quick")
    assert ended.returncode == 0, ended.stderr
    heading, rule, *lines = ended.stdout.splitlines()
    assert heading.split() == ["figure", "floor", "ours", "judged", "first", "end", "reached"]
    assert set(rule) == {"-"}
    names = ["readers.10", "readers.100", "readers.1000"]
    assert [line.split()[0] for line in lines[:3]] == names
    assert lines[3] == ""
    assert [line.split(":")[0] for line in lines[4:]] == names


def test_the_rows_can_be_listed() -> None:
    ended = benchmarks("--list")
    assert ended.returncode == 0
    names = [line.split()[0] for line in ended.stdout.splitlines()]
    assert {"processes", "noop", "latency", "logs", "decision", "memory", "cancel"} <= set(names)


def test_an_unknown_row_is_refused_by_name() -> None:
    ended = benchmarks("nope")
    assert ended.returncode == 2
    assert "nope" in ended.stderr
    assert "noop" in ended.stderr


def test_rows_of_a_sqlite_store_are_measured_beside_its_own_statements() -> None:
    names = ("sqlite_noop", "sqlite_submit", "sqlite_queue", "sqlite_file", "sqlite_rescue")
    ended = benchmarks(*names, "--quick", "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["failed"] == {}
    assert report["seconds"].keys() == set(names)
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert {"sqlite_noop.full.8", "sqlite_submit.normal", "sqlite_file.open"} <= figures.keys()
    for name, figure in figures.items():
        assert figure["ours"] > 0, name
        assert figure["floor"] is None if name == "sqlite_file.open" else figure["floor"] > 0, name
