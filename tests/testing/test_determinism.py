from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hodei_core import JobState
from hodei_core.testing import run_simulated
from tests.testing.scenario import JOBS, SEED, digest, history

ROOT = Path(__file__).parents[2]


def in_a_fresh_process(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.testing.scenario", str(seed)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_a_seed_gives_one_history_in_fresh_processes_and_twice_in_one() -> None:
    here = [digest(SEED), digest(SEED)]
    fresh = [in_a_fresh_process(SEED, hash_seed) for hash_seed in ("0", "1", "2", "random")]
    assert len({*here, *fresh}) == 1


def test_another_seed_gives_another_history() -> None:
    assert digest(SEED) != digest(SEED + 1)


def test_the_history_holds_all_kinds_of_trouble() -> None:
    lines = run_simulated(history, seed=SEED)
    kinds = Counter(line.partition("(")[0] for line in lines)
    assert kinds["JobResult"] == kinds["JobFinished"] == JOBS
    assert kinds["JobRetried"] > JOBS
    assert kinds["JobStuck"] > 0
    assert kinds["LogEntry"] > JOBS
    results = [line for line in lines if line.startswith("JobResult")]
    for state in JobState:
        assert any(state.name in line for line in results) is state.is_final
