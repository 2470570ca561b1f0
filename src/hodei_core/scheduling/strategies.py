"""Ways to choose among the workers that fit: a strategy is one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from hodei_core.scheduling.index import Candidate
from hodei_core.scheduling.needs import Needs

WorkerStrategy: TypeAlias = Callable[[Needs, Sequence[Candidate]], Candidate]
"""Chooses one of the candidates, of which there is at least one."""


def least_loaded(needs: Needs, candidates: Sequence[Candidate]) -> Candidate:
    """Choose the worker with the smallest share of its slots in use; the first among equals."""
    del needs
    if len(candidates) == 1:
        return candidates[0]
    return min(candidates, key=_share)


def _share(worker: Candidate) -> float:
    return worker.slots_used / worker.offer.slots
