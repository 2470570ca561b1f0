"""A few runs of each kind; `python -m tests.kill` makes any number of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.kill.run import Outcome, play

SEEDS = {
    "stopped": (4,),  # takes the longest
    "accepting": (1, 2, 3),
    "write": (1, 2, 3, 4),
    "talk": (1, 2),
    "instant": (1, 2),
    "recovery": (1, 2),
    "opening": (1, 2),
    "closing": (1, 2),
    "together": (1, 4, 6),
    "guard": (1, 2),
    "alone": (1,),
    "asleep": (2, 3),
}
RUNS = [(kind, seed) for kind, seeds in SEEDS.items() for seed in seeds]
AT_ONCE = 6  # they wait more than they work
SECONDS = 110.0

Runs = dict[tuple[str, int], "Future[Outcome]"]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    if shutil.which("strace") is None:
        if "TESTS_MAY_NOT_SKIP" in os.environ:
            pytest.fail("strace is missing, which kills hosts at their system calls")
        pytest.skip("strace is missing, which kills hosts at their system calls: install it")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {of: pool.submit(play, *of) for of in RUNS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("kind", "seed"), RUNS)
def test_what_a_killed_host_has_promised_is_kept_by_the_next(
    runs: Runs, kind: str, seed: int
) -> None:
    outcome = runs[kind, seed].result(SECONDS)
    assert outcome.problems == [], f"{outcome.blows}; replay: {outcome.replay}"
