"""Cancelling a call at one chosen checkpoint, so that a test can sweep over all of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

import anyio

T = TypeVar("T")


async def count_checkpoints(call: Coroutine[Any, Any, T]) -> int:
    """Run a call to its end; return how often it let other tasks run."""
    steps = _Stepped(call, lambda step: None)
    await steps
    return steps.count


async def run_cancelled_at(call: Coroutine[Any, Any, T], step: int) -> T | None:
    """Run a call that is cancelled at its checkpoint number `step`, counted from 1.

    0: it is cancelled before it begins. Returns what it returns; None if it was cancelled.
    """
    with anyio.CancelScope() as scope:

        def at(current: int) -> None:
            if current == step:
                scope.cancel()

        at(0)
        return await _Stepped(call, at)
    return None


class _Stepped(Generic[T]):
    """Awaits a coroutine, told of each checkpoint before it is reached."""

    def __init__(self, call: Coroutine[Any, Any, T], at: Callable[[int], None]) -> None:
        self._call = call
        self._at = at
        self.count = 0

    def __await__(self) -> Generator[Any, Any, T]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                asked = self._call.send(value) if error is None else self._call.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            self.count += 1
            self._at(self.count)
            value = error = None
            try:
                value = yield asked
            except BaseException as raised:  # handed on to the call, whatever it is
                error = raised
