"""What simulations need of trio: virtual time, one schedule, and an end for what has none.

The only module of the library that imports trio; the first simulation loads it.
"""

from __future__ import annotations

import gc
import heapq
import math
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
from trio.lowlevel import Abort, Task

from hodei_core.clock import SystemClock
from hodei_core.compat import override
from hodei_core.testing.simulation import SimulationStalledError

T = TypeVar("T")

_CHECKED = "0.31 to 0.35"
_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"
_PATIENCE = 1.0  # real seconds in which a thread may wake a task before all is taken for stalled
_SLACK = 64  # sleeps given up that may lie about before the heap is rebuilt
_LOOP = ("trio", "anyio")  # whose lines say nothing to the user
_OURS = (*_LOOP, "hodei_core")


class VirtualTime(trio.abc.Clock):
    """The clock of a run: when no task can run, it is the time of what is due next.

    It wakes those who sleep by `sleep` itself, which costs a third of a scope with a deadline,
    as trio's own sleep has; and it ends a run that cannot end by itself, or not by its limit:
    the runner asks for the next deadline just when every task waits.

    Args:
        limit: virtual seconds after which the run is stopped.
    """

    def __init__(self, limit: float) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        self.main: Task | None = None
        self.stalled: str | None = None
        self.given_up: bool = False
        self._now = 0.0
        self._limit = limit
        self._ends_at = limit
        self._sleepers: list[_Sleeper] = []
        self._order = 0
        self._dead = 0
        self._patient_since: float | None = None
        self._waiting_for_idle: Any = ()

    @override
    def start_clock(self) -> None:
        self._waiting_for_idle = _runner().GLOBAL_RUN_CONTEXT.runner.waiting_for_idle

    @override
    def current_time(self) -> float:
        return self._now

    @override
    def deadline_to_sleep_time(self, deadline: float) -> float:
        if self._waiting_for_idle:  # who waits until all tasks are blocked comes first
            return math.inf
        sleepers = self._sleepers
        while sleepers and sleepers[0].task is None:
            heapq.heappop(sleepers)
            self._dead -= 1
        if sleepers and sleepers[0].at < deadline:
            deadline = sleepers[0].at
        if deadline == math.inf:
            return self._nothing_due()
        if deadline > self._ends_at:
            self._stop(f"it has not ended after {self._limit:g} s of virtual time (`limit`)")
            return 0
        self._now = max(self._now, deadline)
        while sleepers and sleepers[0].at <= self._now:
            sleeper = heapq.heappop(sleepers)
            if sleeper.task is None:
                self._dead -= 1
            else:
                trio.lowlevel.reschedule(sleeper.task)
        return 0

    async def sleep(self, seconds: float) -> None:
        """Sleep for so many virtual seconds; for none, let others run."""
        if seconds <= 0:
            await trio.lowlevel.checkpoint()
            return
        self._order += 1
        sleeper = _Sleeper(self._now + seconds, self._order, trio.lowlevel.current_task())
        heapq.heappush(self._sleepers, sleeper)

        def abort(_: object) -> Abort:
            sleeper.task = None
            self._forget_one()
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def forget(self) -> None:
        """Let go of the tasks of a run that was given up."""
        self.main = None
        self.scope = trio.CancelScope()
        self._waiting_for_idle = ()
        self._sleepers.clear()

    def _forget_one(self) -> None:
        self._dead += 1
        if self._dead > _SLACK and self._dead * 2 > len(self._sleepers):
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper.task is not None]
            heapq.heapify(self._sleepers)
            self._dead = 0

    def _nothing_due(self) -> float:
        """Give threads the time to wake a task; then take the run for stalled."""
        now = SystemClock().monotonic()
        if self._patient_since is None:
            self._patient_since = now
            trio.lowlevel.add_instrument(_OnStep(self._somebody_woke))
        left = self._patient_since + _PATIENCE - now
        if left <= 0:
            self._stop("every task waits, and nothing is due, ever")
        return max(left, 0)

    def _somebody_woke(self) -> None:
        self._patient_since = None

    def _stop(self, why: str) -> None:
        """End the run.

        Raises:
            SimulationStalledError: it was to end before, and did not.
        """
        self._ends_at += self._limit
        if self.stalled is None:
            self.stalled = f"the simulation is stalled: {why}; what waits:{_places(self.main)}"
            self.scope.cancel()
            return
        self.stalled += f"\nand it does not end when cancelled; what waits:{_places(self.main)}"
        self.given_up = True
        # What still waits is shielded, so no task can be made to raise: only the runner can.
        msg = "given up"
        raise SimulationStalledError(msg)


class _Sleeper:
    """A task that sleeps; one that gave it up has no task any more."""

    __slots__ = ("at", "order", "task")

    def __init__(self, at: float, order: int, task: Task) -> None:
        self.at = at
        self.order = order
        self.task: Task | None = task

    def __lt__(self, other: _Sleeper) -> bool:
        return (self.at, self.order) < (other.at, other.order)


class _OnStep(trio.abc.Instrument):
    """Calls a function at the next step of a task, once."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    @override
    def before_task_step(self, task: Task) -> None:
        trio.lowlevel.remove_instrument(self)
        self._call()


def run(main: Callable[[], Awaitable[T]], *, seed: int, clock: VirtualTime) -> T:
    """Run an async function in virtual clock.

    Raises:
        SimulationStalledError: it cannot end, or has not by the limit of the clock.
    """
    __tracebackhide__ = True
    results: list[T] = []
    with _one_schedule(seed):
        _run(main, results, clock)
    if not clock.given_up:
        return results[0]
    clock.forget()
    _forget_tasks()
    raise SimulationStalledError(clock.stalled)


def _run(main: Callable[[], Awaitable[T]], results: list[T], clock: VirtualTime) -> None:
    """Put what an async function returns into `results`, unless the time gave it up.

    Raises:
        SimulationStalledError: it was stalled, and ended when cancelled.
    """
    __tracebackhide__ = True

    async def watched() -> None:
        __tracebackhide__ = True
        clock.main = trio.lowlevel.current_task()
        clock.main.name = "main"
        with clock.scope:
            results.append(await main())

    try:
        trio.run(watched, clock=clock)
    except (KeyboardInterrupt, SystemExit, trio.TrioInternalError):
        if not clock.given_up:
            raise
    except BaseException as error:
        if clock.stalled is None:
            raise
        raise SimulationStalledError(clock.stalled) from error
    else:
        if clock.stalled is not None:
            raise SimulationStalledError(clock.stalled)


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
    """Have trio order tasks by the seed alone.

    Its runner shuffles the tasks that can run, by a generator
    of its own, and only if told to sorts them before; their order is else that of addresses.

    Raises:
        RuntimeError: this version of trio cannot be controlled.
    """
    runner = _runner()
    generator: random.Random = runner._r
    state, allowed = generator.getstate(), getattr(runner, _SWITCH)
    generator.seed(f"schedule {seed}")
    setattr(runner, _SWITCH, True)
    try:
        yield
    finally:
        generator.setstate(state)
        setattr(runner, _SWITCH, allowed)


def _runner() -> Any:
    """Return trio's module of the runner: all that is used of its private names is in there.

    Checked with trio 0.31 to 0.35: its generator, its switch, and who waits for idle tasks.

    Raises:
        RuntimeError: this version of trio has no such names.
    """
    runner = getattr(getattr(trio, "_core", None), "_run", None)
    named = all(hasattr(runner, name) for name in ("_r", _SWITCH, "GLOBAL_RUN_CONTEXT"))
    idle = hasattr(getattr(runner, "Runner", None), "waiting_for_idle")
    if not named or not idle or not isinstance(getattr(runner, "_r", None), random.Random):
        msg = (
            f"simulations cannot order the tasks of trio {trio.__version__}: its module "
            f"trio._core._run lacks _r, {_SWITCH}, GLOBAL_RUN_CONTEXT or "
            f"Runner.waiting_for_idle; they were checked with trio {_CHECKED}"
        )
        raise RuntimeError(msg)
    return runner


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
