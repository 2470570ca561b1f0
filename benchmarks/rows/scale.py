"""The curves of a decision's cost: over workers, over what waits, over providers."""

from __future__ import annotations

import asyncio

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import Measure, take_turns
from benchmarks.rows.decision import World

_CURVES: dict[str, tuple[str, list[tuple[int, int, int]]]] = {
    "workers": ("workers", [(n, 1_000, 1) for n in (10, 100, 1_000, 10_000)]),
    "pending": ("pending", [(1_000, n, 1) for n in (1_000, 10_000, 100_000, 1_000_000)]),
    "providers": ("providers", [(1_000, 1_000, n) for n in (1, 5, 20, 50)]),
}
"""Of each curve the sizes: workers, pending, providers; the first is the floor."""


def measure(quick: bool) -> list[Figure]:
    return [
        figure
        for name, (what, sizes) in _CURVES.items()
        for figure in asyncio.run(_curve(name, what, sizes[:2] if quick else sizes, quick))
    ]


async def _curve(
    name: str, what: str, sizes: list[tuple[int, int, int]], quick: bool
) -> list[Figure]:
    worlds = [
        World(workers, pending, free=0, providers=providers)
        for workers, pending, providers in sizes
    ]

    def freed(world: World) -> Measure:
        return lambda: world.as_slots_free(20 if quick else 1_000)

    results = await take_turns(2 if quick else 11, *map(freed, worlds))
    place = {"workers": 0, "pending": 1, "providers": 2}[name]
    return [
        Figure(
            name=f"scale.{name}.{sizes[number][place]}",
            what=f"CPU time of a job placed as a slot is freed, {sizes[number][place]:,} {what}",
            unit="us",
            floor_is=f"{sizes[0][place]:,} {what}",
            floor=results.median(0) * 1e6,
            ours=results.median(number) * 1e6,
            judged=Judged.RATIO,
            value=results.ratio(number, 0),
            first=2.0,
            end=1.5,
        )
        for number in range(1, len(sizes))
    ]


ROW = Row("scale", "curves of a decision's cost, over workers, pending jobs and providers", measure)
