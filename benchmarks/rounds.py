"""Rounds in which floor and ours take turns, so that both meet the same noise."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence

Measure = Callable[[], Awaitable[float]]


class Rounds:
    """What several measures gave in the same rounds."""

    def __init__(self, results: Sequence[Sequence[float]]) -> None:
        self._results = results

    def median(self, measure: int) -> float:
        """Return the median of one measure."""
        return statistics.median(result[measure] for result in self._results)

    def worst(self, measure: int) -> float:
        """Return the largest value of one measure."""
        return max(result[measure] for result in self._results)

    def ratio(self, measure: int, to: int) -> float:
        """Return the median of the rounds' ratios of one measure to another."""
        return statistics.median(result[measure] / result[to] for result in self._results)

    def difference(self, measure: int, less: int) -> float:
        """Return the median of the rounds' differences of two measures."""
        return statistics.median(result[measure] - result[less] for result in self._results)


async def take_turns(count: int, *measures: Measure) -> Rounds:
    """Measure each `count` times; every second round runs in the opposite order."""
    results = []
    for number in range(count):
        order = list(enumerate(measures))
        if number % 2:
            order.reverse()
        found = {place: await measure() for place, measure in order}
        results.append([found[place] for place in range(len(measures))])
    return Rounds(results)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the sample below which this share of them lies, 0 to 1."""
    ordered = sorted(samples)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
