"""Runs simulated histories: `python -m tests.simulation --seeds 300 --first 0`."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.play import play
from tests.simulation.run import ACTIONS, Outcome


def main() -> int:
    """Run many seeds; return 1 if one of them breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--actions", type=int, default=ACTIONS)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first")
    parser.add_argument(
        "--shadow", action="store_true", help="with the SQL of the SQLite store beside the model"
    )
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    began = time.monotonic()
    failed = 0
    totals: Counter[str] = Counter()
    jobs = facts = done = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        work = [(seed, options.actions, options.shadow) for seed in seeds]
        for outcome in pool.map(play, work, chunksize=1):
            done += 1
            jobs += outcome.jobs
            facts += outcome.facts
            totals.update(outcome.faults)
            if outcome.problem is not None:
                failed += 1
                tell(*shortened(outcome, options.actions, options.shadow), options.shadow)
                if not options.keep_going:
                    pool.shutdown(cancel_futures=True)
                    break
    took = time.monotonic() - began
    rate = done / took / options.processes
    print(
        f"{done} seeds, {failed} failed, {jobs} jobs, {facts} facts, "
        f"{took:.1f} s, {rate:.1f} seeds/s and process"
    )
    print("faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(totals.items())))
    return 1 if failed else 0


def shortened(outcome: Outcome, actions: int, shadow: bool) -> tuple[Outcome, int]:
    """Return a shorter history of the seed that fails as well, and how many actions it has."""
    tried = 1
    while tried < actions and "SpinningError" not in (outcome.problem or ""):
        shorter = play((outcome.seed, tried, shadow))
        if shorter.problem is not None:
            return shorter, tried
        tried = tried * 3 // 2 + 1
    return outcome, actions


def tell(outcome: Outcome, actions: int, shadow: bool) -> None:
    """Print why a seed failed, the end of its history, and how to replay it."""
    print(f"seed {outcome.seed} failed: {outcome.problem}")
    for line in outcome.last[-60:]:
        print(f"    {line}")
    print(
        f"replay: python -m tests.simulation --first {outcome.seed} --seeds 1 --actions {actions}"
        + (" --shadow" if shadow else "")
    )


if __name__ == "__main__":
    sys.exit(main())
