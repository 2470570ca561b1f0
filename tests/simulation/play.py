"""Plays a seed in a process of its own, and stops one that spins."""

from __future__ import annotations

import gc
import logging
import signal

from tests.simulation.run import Outcome, run

SPIN_SECONDS = 30


class SpinningError(BaseException):
    """A history makes no progress."""


def play(work: tuple[int, int, bool]) -> Outcome:
    """Run the history of a seed with so many actions, with or without the shadow."""
    seed, actions, shadow = work

    def stop(*_: object) -> None:
        msg = f"it did not end within {SPIN_SECONDS} s of real time"
        raise SpinningError(msg)

    logging.disable(logging.CRITICAL)  # nobody reads it: the history tells what happened
    gc.set_threshold(20_000, 20, 50)  # a history leaves little, and is over soon
    signal.signal(signal.SIGALRM, stop)
    # Again each second: it may hit where what a provider raises is contained.
    signal.setitimer(signal.ITIMER_REAL, SPIN_SECONDS, 1)
    try:
        return run(seed, actions, shadow=shadow)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
