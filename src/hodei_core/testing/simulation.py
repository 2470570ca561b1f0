"""Runs async code in virtual time, on one schedule that its seed decides."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, overload

import anyio

from hodei_core.ambient import Ambient, ambient, surrounded_by
from hodei_core.checks import whole_number
from hodei_core.clock import Clock, to_timedelta
from hodei_core.compat import override
from hodei_core.testing.clock import START

P = ParamSpec("P")
T = TypeVar("T")

DAY = timedelta(days=1)

told_seed: ContextVar[int | None] = ContextVar("hodei_core_told_seed", default=None)
"""The seed for `simulated` functions in place of their own: the pytest plugin sets it."""


class SimulationStalledError(RuntimeError):
    """A simulation can never end by itself; the message says where each task waits."""


class SimulatedClock(Clock):
    """The clock of a simulation. Time passes when every task waits, and then at once.

    Args:
        monotonic: reads the virtual time, in seconds from the beginning of the simulation.
        sleep: waits for so many virtual seconds.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._jumped = timedelta(0)

    @override
    def now(self) -> datetime:
        return START + timedelta(seconds=self._monotonic()) + self._jumped

    @override
    def monotonic(self) -> float:
        return self._monotonic()

    @override
    async def sleep(self, seconds: float) -> None:
        await self._sleep(max(seconds, 0))

    def jump(self, seconds: float | timedelta) -> None:
        """Set the wall clock forward or back, as an administrator does; no time passes."""
        self._jumped += to_timedelta(seconds)


def simulated_clock() -> SimulatedClock:
    """Return the clock of the simulation that runs.

    Raises:
        RuntimeError: none runs here.
    """
    clock = ambient().clock
    if not isinstance(clock, SimulatedClock):
        msg = "no simulation runs here: see hodei_core.testing.simulated"
        raise RuntimeError(msg)  # noqa: TRY004 - it is the call that is out of place
    return clock


def run_simulated(
    main: Callable[..., Awaitable[T]],
    *args: object,
    seed: int = 0,
    limit: float | timedelta = DAY,
) -> T:
    """Run an async function in virtual time, on the schedule that the seed decides.

    It runs on trio. A `Hodei` that is made inside takes its time and its identifiers from the
    simulation; so do `anyio.sleep` and deadlines. When every task waits, time goes on to the
    next deadline at once. The generator of the module `random` is seeded too. One seed gives
    one history, on the same versions of Python, trio and this library. Threads, processes,
    sockets and `time` are not simulated. One simulation at a time in a process.

    Args:
        main: the function; called with `args`.
        args: its arguments.
        seed: decides the order of tasks that could run at the same time, identifiers, jitter.
        limit: seconds of virtual time after which it is stopped as stalled.

    Raises:
        SimulationStalledError: every task waits for ever, or the limit is reached.
        RuntimeError: trio is not installed, or is a version that this cannot control.
    """
    __tracebackhide__ = True
    whole_number("seed", seed, least=0)
    span = to_timedelta(limit).total_seconds()
    if importlib.util.find_spec("trio") is None:
        msg = "simulations run on trio, which is not installed: pip install trio"
        raise RuntimeError(msg)
    from hodei_core.testing.virtual_time import VirtualTime, run

    virtual = VirtualTime(span)
    surroundings = Ambient(
        clock=SimulatedClock(virtual.current_time, virtual.sleep),
        random_bytes=random.Random(f"bytes {seed}").randbytes,  # noqa: S311 - to be repeatable
        simulated=True,
    )
    with surrounded_by(surroundings), _seeded_random(seed):
        return run(functools.partial(main, *args), seed=seed, clock=virtual)


@overload
def simulated(test: Callable[P, Awaitable[T]], /) -> Callable[P, T]: ...
@overload
def simulated(
    *, seed: int = 0, limit: float | timedelta = DAY
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, T]]: ...
def simulated(
    test: Callable[..., Any] | None = None,
    /,
    *,
    seed: int = 0,
    limit: float | timedelta = DAY,
) -> Callable[..., Any]:
    """Make a plain function of an async one, which runs it as `run_simulated` does.

    ```python
    @simulated(seed=7)
    async def test_the_report_is_tried_again() -> None: ...
    ```

    No plugin and no marker is needed. With pytest, arguments are fixtures as ever (those that
    are async excepted), and `--hodei-seed` and `--hodei-seeds` choose other seeds.

    Args:
        test: the async function.
        seed: as in `run_simulated`.
        limit: as in `run_simulated`.

    Raises:
        TypeError: it is not an async function.
    """

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(test):
            msg = f"simulated needs an async function, not {test!r}"
            raise TypeError(msg)

        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            told = told_seed.get()
            main = functools.partial(test, *args, **kwargs)
            return run_simulated(main, seed=seed if told is None else told, limit=limit)

        run.__hodei_seed__ = seed  # type: ignore[attr-defined]
        return run

    whole_number("seed", seed, least=0)
    return decorate if test is None else decorate(test)


@contextmanager
def _seeded_random(seed: int) -> Iterator[None]:
    before = random.getstate()
    random.seed(f"random {seed}")
    try:
        yield
    finally:
        random.setstate(before)
