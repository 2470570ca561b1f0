"""Kills hosts of a SQLite store: `python -m tests.kill --runs 100 --processes 6`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.kill.run import ALL_KINDS, Outcome, play


def main() -> int:
    """Make many runs; return 1 if one of them breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill")
    parser.add_argument("--runs", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--seed", type=int, help="one run: that of this seed")
    parser.add_argument("--kind", choices=ALL_KINDS, action="append", help="these kinds alone")
    parser.add_argument("--processes", type=int, default=4, help="runs at the same time")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is missing: install it")
        return 2
    kinds = options.kind or ALL_KINDS
    first, runs = (options.first, options.runs) if options.seed is None else (options.seed, 1)
    began = time.monotonic()
    outcomes = []
    with ThreadPoolExecutor(options.processes) as pool:
        work = [pool.submit(play, kinds[s % len(kinds)], s) for s in range(first, first + runs)]
        for future in as_completed(work):
            outcome = future.result()
            outcomes.append(outcome)
            if outcome.problems:
                tell(outcome)
                if not options.keep_going:
                    pool.shutdown(cancel_futures=True)
                    break
    summary(outcomes, time.monotonic() - began)
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def tell(outcome: Outcome) -> None:
    """Print what a run has broken, and how to play it again."""
    print(f"{outcome.kind} {outcome.seed} failed:")
    for line in (*outcome.blows, *outcome.problems[:20]):
        print(f"    {line}")
    print(f"replay: {outcome.replay}", flush=True)


def summary(outcomes: list[Outcome], seconds: float) -> None:
    """Print what was covered."""
    facts: Counter[str] = Counter()
    for outcome in outcomes:
        facts.update(outcome.facts)
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    print(f"{len(outcomes)} runs, {failed} failed, {seconds:.0f} s")
    for kind in ALL_KINDS:
        runs = sum(outcome.kind == kind for outcome in outcomes)
        if runs:
            killed, missed = facts.pop(f"{kind} kills", 0), facts.pop(f"{kind} not reached", 0)
            print(f"    {kind}: {runs} runs, {killed} hosts killed, {missed} ended before that")
    print("    " + ", ".join(f"{what} {count}" for what, count in facts.items()))


if __name__ == "__main__":
    sys.exit(main())
