"""A few seeds in every run of the tests; `python -m tests.simulation` plays any number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import run

ROOT = Path(__file__).parents[2]

ONCE_BROKEN = {
    7: "a log writer that had died held the slots that waited for it, and the host did not close",
    14: "what a dead host had covered was not looked at again",
    31: "a timer that fired early was set again for the same instant, for ever",
    65: "of two who waited for the fleet only one was woken, and the host never opened",
    155: "the row of a worker was dropped while its host closed and the worker was still there",
    222: "the row of a worker on its way was dropped, and the worker came after that",
    305: "a probe that was given up with its host's lease kept the breaker from closing for ever",
    101442: "numbers of log entries that a fenced host never stored were not given again",
    110975: "a probe that came when its host had lost its lease kept the breaker from closing",
    86: "a host went on from the log of its own attempt, though another had run one since",
    20991: "the last assignment to a worker with `max_jobs` was refused, since it drained already",
    6630: "a look at attempts that do not start was set again for the same instant, for ever",
    315: "an attempt of a silent worker was made again while the worker still ran it",
    205: "assignments that the store refused were tried again and again in the same instant",
}
"""Seeds that found a bug, as the histories were then."""


@pytest.mark.parametrize("seed", [*range(1_000, 1_010), *ONCE_BROKEN])
def test_a_history_of_faults_keeps_every_promise(seed: int) -> None:
    outcome = run(seed)
    assert outcome.problem is None, "\n".join(outcome.last)


def test_one_seed_is_one_history_in_any_process() -> None:
    code = "from tests.simulation.run import run; print(run(5).digest, run(5).digest)"
    told = {
        digest
        for hash_seed in ("0", "1", "77")
        for digest in subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split()
    }
    assert told == {run(5).digest}
    assert run(6).digest not in told
