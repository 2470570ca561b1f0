"""What the tests of the fleet share: deadlines, policies, and what must hold outside."""

from __future__ import annotations

from typing import Any

import anyio

from hodei_core import Backoff, Hodei, RetryPolicy, Worker, WorkerPolicy, WorkerState
from hodei_core.testing import ScriptedProvider

LIMIT = 10.0
"""Seconds within which every awaited fact of a test in real time must come true."""

AT_ONCE = Backoff(first=0)
AGAIN = RetryPolicy(max_attempts=5, backoff=AT_ONCE)


class Nonsense(BaseException):
    """What no program expects."""


def policy(**fields: Any) -> WorkerPolicy:
    """Return a policy for up to four workers that are never asked whether they live."""
    return WorkerPolicy(**({"max_workers": 4, "lease": None} | fields))


def assert_sound(*providers: ScriptedProvider) -> None:
    """Check what holds at any time."""
    for provider in providers:
        assert provider.overlaps == []
        assert provider.most_alive <= provider.policy.max_workers
        assert [w for w in provider.workers.values() if w.ended_under] == []


def assert_nothing_left(*providers: ScriptedProvider) -> None:
    """Check what holds when all has closed."""
    for provider in providers:
        assert provider.overlaps == []
        assert provider.alive == []
        assert provider.executing == []


async def states(hodei: Hodei) -> list[WorkerState]:
    """Return the states of the workers that are listed, oldest first."""
    return [worker.state for worker in await hodei.list_workers()]


async def only_worker(hodei: Hodei) -> Worker:
    """Return the one worker that is listed."""
    (worker,) = await hodei.list_workers()
    return worker


async def settled() -> None:
    """Return when every task waits, in a simulation."""
    await anyio.sleep(0.001)
