"""Random histories of the pure core: `python -m tests.scheduling.histories --seeds 2000`.

Backlog, index, fairness and scheduler alone, without a store, a task or an event loop: what is
wrong in them shows here some forty times sooner than in a simulation of whole hosts.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter, defaultdict

from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.scheduling.scheduler import SmartScheduler, WorkerStrategyName
from hodei_core.workers import Offer
from tests.scheduling.helpers import offer
from tests.scheduling.simulation import Simulation

ACTIONS = 100
STRATEGIES: tuple[WorkerStrategyName, ...] = (
    "first_available",
    "least_loaded",
    "most_capacity",
    "round_robin",
    "affinity",
)
LARGE = offer(cpus=4, slots=8)
"""On which each job fits."""

LONGEST = 30.0
"""Seconds that a job runs at most."""

SETTLED = 3_600.0
"""Seconds within which all have run that could."""


def play(seed: int, actions: int = ACTIONS) -> Simulation:
    """Play the history of a seed.

    Raises:
        AssertionError: a promise was broken.
    """
    chance = random.Random(f"core {seed}")
    scheduler = SmartScheduler(worker_strategy=chance.choice(STRATEGIES))
    simulation = Simulation(_offer(chance), _offer(chance), scheduler=scheduler)
    simulation.making = (ProviderView(name="local", offer=LARGE, room=0, arriving=1),)
    submitted: list[int] = []
    for _ in range(actions):
        _act(simulation, chance, submitted)
        check(simulation)
    simulation.join(LARGE)
    simulation.run(SETTLED)
    check(simulation)
    assert simulation.waiting == 0, f"{simulation.waiting} jobs wait for ever"
    assert simulation.kept == {}, "a worker is kept for a job that does not wait"
    return simulation


def _offer(chance: random.Random) -> Offer:
    return offer(cpus=chance.choice((1, 2, 4)), slots=chance.choice((1, 2, 8)))


def _act(simulation: Simulation, chance: random.Random, submitted: list[int]) -> None:
    drawn = chance.random()
    workers = list(simulation.index.workers())
    if drawn < 0.7:
        length, delay = chance.uniform(0.1, LONGEST), chance.choice((0, 0, 0, 5))
        cpus, priority = chance.choice((0.5, 1, 2, 4)), chance.choice((0, 0, 0, 5))
        submitted.append(simulation.submit(length, delay=delay, cpus=cpus, priority=priority))
    elif drawn < 0.8 and submitted:
        simulation.cancel(chance.choice(submitted))
    elif drawn < 0.9 or not workers:
        simulation.join(_offer(chance))
    else:
        go = chance.choice((simulation.drain, simulation.lose))
        go(chance.choice(workers).id)
    simulation.run(chance.choice((0, 0, 0.1, 1, 10)))


def check(simulation: Simulation) -> None:
    """Hold what is true at any time.

    Raises:
        AssertionError: it is not.
    """
    slots: Counter[str] = Counter()
    cpus: dict[str, float] = defaultdict(float)
    for job in simulation.running():
        slots[simulation.placed[job.seq]] += 1
        cpus[simulation.placed[job.seq]] += job.spec.resources.cpus
    # If the smallest has no room nothing has: no job here asks for memory.
    least = min(simulation.pending(), key=lambda job: job.spec.resources.cpus, default=None)
    for worker in simulation.index.workers():
        assert slots[worker.id] == worker.offer.slots - worker.slots_free
        assert slots[worker.id] <= worker.offer.slots, "more jobs than slots"
        assert cpus[worker.id] <= worker.offer.resources.cpus + 1e-9, "more CPUs than there are"
        if not worker.taking or simulation.index.kept(worker.id) is not None:
            continue
        assert least is None or not worker.fits(least.spec.resources), (
            f"job {least.seq} waits beside {worker.id} with room"
        )


def main() -> int:
    """Play many; return 1 if one breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.scheduling.histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=2_000, help="how many")
    options = parser.parse_args()
    began = time.process_time()
    for seed in range(options.first, options.first + options.seeds):
        try:
            play(seed)
        except AssertionError as error:
            print(f"seed {seed} failed: {error}")
            print(f"replay: python -m tests.scheduling.histories --first {seed} --seeds 1")
            return 1
    took = time.process_time() - began
    print(f"{options.seeds} seeds, {took:.1f} s of CPU, {options.seeds / took:.0f} seeds/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
