"""Each example prints what it says, ends well and leaves no process behind."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.cli.helpers import processes_with

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TIMEOUT = 60.0

PRINTED = {
    "blocking.py": [
        "hello",
        "line 1",
        "line 2",
        "line 3",
        "succeeded: 2 of 3",
        "SUCCEEDED, 3 lines",
    ],
    "cancel_tree.py": [
        "started",
        "its shell and three children run, two of them in sessions of their own",
        "CANCELLED: the user has changed their mind",
        "processes left: 0",
    ],
    "events.py": [
        r"waiting: It is PENDING: every worker that fits is in use \(it is the next\)\.",
        r"waiting: JobStuck: It is PENDING: every worker that fits is in use\.",
        "slow: JobFinished SUCCEEDED, exit code 0",
        "waiting: JobFinished SUCCEEDED, exit code 0",
        "flaky: JobRetried after attempt 1 ended by EXIT_CODE",
        "flaky: JobFinished SUCCEEDED, exit code 0",
        "succeeded: 3, failed: 0",
    ],
    "harness.py": [
        r"It is PENDING: its delay ends in 1 h 0 min\.",
        "  provider memory: .*",
        "attempt 1 failed; the next is due after 30 s",
        "attempt 2 failed; the next is due after 60 s",
        r"SUCCEEDED after 3 attempts: 'make report: done\\n'",
        "it took 90 s by the clock",
    ],
    "live_logs.py": [
        r"two: \['line 2', 'line 3'\]",
        r"(all|errors): \[.*'a warning'.*\]",
        r"(all|errors): \[.*'a warning'.*\]",
        "last: 5 .*",
        r"bytes: b'line 1\\nline 2\\nline 3\\nline 4\\n'",
    ],
    "many_jobs.py": [
        "started:"
        + "".join(f" {w}-{n}" for w in ("urgent", "normal", "later") for n in range(1, 5)),
        "12 succeeded, 0 pending",
        "0 of 2 slots in use",
    ],
    "quickstart.py": [
        r"20..-..-.. ..:..:..\.\d+\+00:00 LogSource\.STDOUT hello",
        r"20..-..-.. ..:..:..\.\d+\+00:00 LogSource\.STDOUT done",
        r"JobResult\(.*SUCCEEDED.*exit_code=0.*\)",
        "Linux",
    ],
    "retry_and_timeout.py": [
        "attempt 1: exit code 1",
        "attempt 2: exit code 1",
        "attempt 3: exit code 0",
        "flaky: SUCCEEDED",
        r"slow: TIMED_OUT, it had printed 'working\\n'",
        r"error: exit code 7, 'no such host\\n'",
    ],
    "virtual_time.py": [
        r"a: SUCCEEDED, 1 attempts, after 60\.\d min",
        r"b: SUCCEEDED, 1 attempts, after 60\.\d min",
        r"flaky: SUCCEEDED, 2 attempts, after 6\d\.\d min",
        r"stuck: TIMED_OUT, 3 attempts, after \d\d\.\d min",
        "seed 7 again is the same: True",
        "seed 8 is another:        True",
    ],
    "web_application.py": [
        "hello",
        "web",
        "SUCCEEDED 0",
        "FAILED 3",
        "stopped; the job that was running ended FAILED",
    ],
}
OF_THE_DEMO = {"demo.py", "demo_host.py"}


def run(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end, and hold that nothing of it is left."""
    mark = uuid.uuid4().hex  # jobs get variables of this name as their host has them
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "XDG_TEST_MARK": mark, **environment},
    )
    assert processes_with("XDG_TEST_MARK", mark) == []
    return done


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_the_example_prints_what_it_shows(name: str) -> None:
    done = run(name)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(PRINTED[name]), done.stdout
    for line, pattern in zip(lines, PRINTED[name], strict=True):
        assert re.fullmatch(pattern, line), done.stdout


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == PRINTED.keys() | OF_THE_DEMO


@pytest.mark.parametrize("name", sorted(PRINTED.keys() | OF_THE_DEMO))
def test_the_example_says_what_it_shows_how_to_run_it_and_what_it_prints(name: str) -> None:
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text()))
    assert text is not None
    assert re.search(rf"^Run it: .*{name}|^Run it: +make demo", text, re.MULTILINE)
    assert re.search(r"^It prints: +\S", text, re.MULTILINE)


def test_the_demo_meets_its_own_expectations() -> None:
    done = run("demo.py")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    steps = re.findall(r"^(\d)\. ", done.stdout.split("\n   step")[0], re.MULTILINE)
    assert steps == list("12345678")
    assert len(re.findall("^   ok  ", done.stdout, re.MULTILINE)) == 17
    assert "   NOT " not in done.stdout
    assert done.stdout.endswith("All as expected.\n")


def test_the_demo_fails_if_an_expectation_is_not_met(tmp_path: Path) -> None:
    liar = tmp_path / "sha256sum"
    liar.write_text('#!/bin/sh\nshift\nfor f; do printf "%064d  %s\\n" 0 "$f"; done\n')
    liar.chmod(0o755)
    done = run("demo.py", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "   NOT every checksum is that of its file" in done.stdout
    assert "\nNOT as expected: every checksum is that of its file" in done.stdout
