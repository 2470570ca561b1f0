"""A few random histories of the pure core; `python -m tests.scheduling.histories` plays more."""

from __future__ import annotations

from tests.scheduling.histories import play


def test_random_histories_keep_every_promise_of_the_scheduling() -> None:
    started = sum(len(play(seed).started) for seed in range(200))
    assert started > 5_000
