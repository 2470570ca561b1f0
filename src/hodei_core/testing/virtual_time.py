"""What simulations need of trio: virtual time, one schedule, and a watch over both.

The only module of the library that imports trio; the first simulation loads it.
"""

from __future__ import annotations

import gc
import math
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import trio
import trio.testing
from trio.lowlevel import Task

from hodei_core.compat import override
from hodei_core.testing.simulation import SimulationStalledError

T = TypeVar("T")

_CHECKED = "0.31 to 0.35"
_PATIENCE = 1.0  # real seconds in which a thread may wake a task before all is taken for stalled
_JUMPED = 2  # turns in a row without a step of a task: in the second, time has jumped
_LOOP = ("trio", "anyio")  # whose lines say nothing to the user
_OURS = (*_LOOP, "hodei_core")


def run(main: Callable[[], Awaitable[T]], *, seed: int, limit: float) -> T:
    """Run an async function in virtual time, at most `limit` seconds of it.

    Raises:
        SimulationStalledError: it cannot end, or has not by then.
    """
    __tracebackhide__ = True
    results: list[T] = []
    with _one_schedule(seed):
        given_up = _run(main, results, limit)
    if given_up is None:
        return results[0]
    _forget_tasks()
    raise SimulationStalledError(given_up)


def _run(main: Callable[[], Awaitable[T]], results: list[T], limit: float) -> str | None:
    """Put what an async function returns into `results`; return why it was given up, if it was.

    Raises:
        SimulationStalledError: it was stalled, and ended when cancelled.
    """
    __tracebackhide__ = True
    clock = trio.testing.MockClock(autojump_threshold=0)
    watch = _Watch(clock, limit)

    async def watched() -> None:
        __tracebackhide__ = True
        watch.main = trio.lowlevel.current_task()
        watch.main.name = "main"
        with watch.scope:
            results.append(await main())

    try:
        trio.run(watched, clock=clock, instruments=[watch])
    except (KeyboardInterrupt, SystemExit, trio.TrioInternalError):
        if not watch.given_up:
            raise
    except BaseException as error:
        if watch.stalled is None:
            raise
        raise SimulationStalledError(watch.stalled) from error
    else:
        if watch.stalled is not None:
            raise SimulationStalledError(watch.stalled)
    return watch.stalled


def _forget_tasks() -> None:
    """Free what tasks that were given up hold, here and not in somebody else's test.

    Each of them complains that it is ended outside of trio: what is told is told already.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook


@contextmanager
def _one_schedule(seed: int) -> Iterator[None]:
    """Have trio order tasks by the seed alone; the only place that uses private names of trio.

    Checked with trio 0.31 to 0.35. Its runner shuffles the tasks that can run, by a generator
    of its own, and only if told to sorts them before; their order is else that of addresses.

    Raises:
        RuntimeError: this version of trio has no such names.
    """
    runner = getattr(getattr(trio, "_core", None), "_run", None)
    generator = getattr(runner, "_r", None)
    switch = "_ALLOW_DETERMINISTIC_SCHEDULING"
    if not isinstance(generator, random.Random) or not hasattr(runner, switch):
        msg = (
            f"simulations cannot order the tasks of trio {trio.__version__}: its module "
            f"trio._core._run lacks _r or {switch}; they were checked with trio {_CHECKED}"
        )
        raise RuntimeError(msg)
    state, allowed = generator.getstate(), getattr(runner, switch)
    generator.seed(f"schedule {seed}")
    setattr(runner, switch, True)
    try:
        yield
    finally:
        generator.setstate(state)
        setattr(runner, switch, allowed)


class _Watch(trio.abc.Instrument):
    """Ends a run that cannot end by itself; trio would turn its loop for ever.

    The runner calls `before_io_wait` once in each turn. At the end of a turn in which no task
    took a step it lets time jump; in the next one tasks run again, if anything was due.
    """

    def __init__(self, clock: trio.testing.MockClock, limit: float) -> None:
        self.scope = trio.CancelScope()
        self.main: Task | None = None
        self.stalled: str | None = None
        self.given_up = False
        self._clock = clock
        self._limit = limit
        self._ends_at = limit
        self._idle = 0
        self._patient = False

    @override
    def before_task_step(self, task: Task) -> None:
        self._idle = 0

    @override
    def before_io_wait(self, timeout: float) -> None:
        self._idle += 1
        if self._idle == _JUMPED and self._clock.current_time() > self._ends_at:
            self._stop(f"it has not ended after {self._limit:g} s of virtual time (`limit`)")
        elif self._idle > _JUMPED and not self._patient and _nothing_due():
            self._patient = True
            self._clock.autojump_threshold = _PATIENCE

    @override
    def after_io_wait(self, timeout: float) -> None:
        if not self._patient or timeout != _PATIENCE:
            return
        self._patient = False
        self._clock.autojump_threshold = 0
        if _nothing_due():
            self._stop("every task waits, and nothing is due, ever")

    def _stop(self, why: str) -> None:
        self._ends_at += self._limit
        if self.stalled is None:
            self.stalled = f"the simulation is stalled: {why}; what waits:{_places(self.main)}"
            self.scope.cancel()
            return
        self.stalled += f"\nand it does not end when cancelled; what waits:{_places(self.main)}"
        # What still waits is shielded, so no task can be made to raise: only the runner can.
        self.given_up = True
        self._clock.deadline_to_sleep_time = self._give_up  # type: ignore[method-assign]

    @staticmethod
    def _give_up(deadline: float) -> NoReturn:
        del deadline
        raise SimulationStalledError("given up")


def _nothing_due() -> bool:
    """Return whether no task can run, and none ever will by the passing of time."""
    statistics = trio.lowlevel.current_statistics()
    return not statistics.tasks_runnable and statistics.seconds_to_next_deadline == math.inf


def _places(main: Task | None) -> str:
    """Return where the user's code waits, a line for each task; if none does, where ours does."""
    tasks = [] if main is None else [main]
    for task in tasks:
        for nursery in task.child_nurseries:
            tasks += sorted(nursery.child_tasks, key=lambda child: child.name)
    users = [_place(task, outside=_OURS) for task in tasks]
    places = users if any(users) else [_place(task, outside=_LOOP) for task in tasks]
    return "".join(f"\n  {place}" for place in places if place)


def _place(task: Task, *, outside: tuple[str, ...]) -> str:
    """Return the innermost line of a task that is not of these packages; "" if there is none."""
    place = ""
    for frame, line in task.iter_await_frames():
        module = frame.f_globals.get("__name__", "?")
        if module.split(".")[0] not in outside:
            place = f"{task.name}: {module}:{line} in {frame.f_code.co_name}"
    return place
