from __future__ import annotations

import inspect
import itertools
import random
import re
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
import trio

from hodei_core import (
    Execution,
    Hodei,
    JobState,
    Output,
    ProvisionError,
    Reason,
    SystemClock,
    testing,
)
from hodei_core.ambient import ambient
from hodei_core.backends.memory import MemoryProvider
from hodei_core.testing import (
    SimulatedClock,
    SimulationStalledError,
    run_simulated,
    simulated,
    simulated_clock,
)
from hodei_core.testing.clock import START


async def hour(execution: Execution, output: Output) -> None:
    del execution, output
    await anyio.sleep(3600)


async def forever(execution: Execution, output: Output) -> None:
    del execution, output
    await anyio.sleep_forever()


def test_the_public_names_are_sorted_and_there() -> None:
    assert testing.__all__ == sorted(testing.__all__)
    assert all(getattr(testing, name).__doc__ for name in testing.__all__)


@simulated(seed=3)
async def test_it_needs_no_marker_and_time_is_virtual() -> None:
    async with Hodei(providers=[MemoryProvider(hour)]) as hodei:
        result = await hodei.run("x", delay=3600)
    assert result.duration == timedelta(hours=1)
    assert anyio.current_time() == 7200


@simulated
async def test_it_may_be_written_without_arguments() -> None:
    await anyio.sleep(10)
    assert simulated_clock().monotonic() == 10


@pytest.mark.parametrize("number", [1, 2])
@simulated(seed=3)
async def test_arguments_are_fixtures_and_parameters(
    number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert number in {1, 2}
    assert tmp_path_factory.getbasetemp().is_dir()
    await anyio.sleep(1)


class TestInClasses:
    @simulated(seed=3)
    async def test_a_method_is_simulated_too(self, request: pytest.FixtureRequest) -> None:
        assert request.instance is self
        await anyio.sleep(1)
        assert anyio.current_time() == 1


def test_the_function_is_plain_and_keeps_its_name_and_signature() -> None:
    @simulated(seed=3)
    async def double(number: int, *, more: str = "x") -> str:
        """Tell."""
        return more * number

    assert not inspect.iscoroutinefunction(double)
    assert (double.__name__, double.__doc__) == ("double", "Tell.")
    assert list(inspect.signature(double).parameters) == ["number", "more"]
    assert double(2, more="ab") == "abab"


def test_what_is_not_async_is_refused() -> None:
    def plain() -> None: ...

    with pytest.raises(TypeError, match="needs an async function"):
        simulated(plain)  # type: ignore[arg-type]


def test_a_seed_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match="seed must be a whole number from 0, not -1"):
        simulated(seed=-1)
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0, not 1\.5"):
        run_simulated(anyio.sleep, 0, seed=1.5)  # type: ignore[arg-type]


def test_arguments_and_the_result_are_handed_through() -> None:
    async def add(a: int, b: int) -> int:
        await anyio.sleep(a)
        return a + b

    assert run_simulated(add, 1, 2, seed=3) == 3


@pytest.mark.parametrize("error", [AssertionError("no"), KeyError("no"), SystemExit(3)], ids=repr)
def test_an_error_of_the_body_comes_out_as_it_was_raised(error: BaseException) -> None:
    async def body() -> None:
        async with Hodei(providers=[MemoryProvider(hour)]) as hodei:
            await hodei.submit("x")
            raise error

    with pytest.raises(type(error)) as raised:
        run_simulated(body)
    assert raised.value is error


def test_a_test_can_be_skipped_from_inside() -> None:
    async def body() -> None:
        pytest.skip("not here")

    with pytest.raises(pytest.skip.Exception, match="not here"):
        run_simulated(body)


@simulated
async def test_the_wall_clock_begins_at_a_fixed_instant_and_can_be_set() -> None:
    clock = simulated_clock()
    assert clock.now() == START
    await clock.sleep(5)
    clock.jump(timedelta(hours=-1))
    assert clock.now() == START + timedelta(seconds=5, hours=-1)
    assert clock.monotonic() == 5


@simulated
async def test_a_wall_clock_that_is_set_back_ends_no_job_early_and_none_late() -> None:
    async with Hodei(providers=[MemoryProvider(forever)]) as hodei:
        job = await hodei.submit("x", timeout=60)
        await anyio.sleep(30)
        simulated_clock().jump(-3600)
        result = await job
        assert result.reason is Reason.TIMEOUT
        assert anyio.current_time() == 60


@simulated
async def test_a_clock_that_is_given_is_the_one_that_is_taken() -> None:
    mine = SimulatedClock(trio.current_time)
    mine.jump(86_400)
    async with Hodei(providers=[MemoryProvider(hour)], clock=mine) as hodei:
        result = await hodei.run("x")
    assert result.submitted_at == START + timedelta(days=1)


def test_outside_of_a_simulation_there_is_no_simulated_clock() -> None:
    run_simulated(anyio.sleep, 1)
    with pytest.raises(RuntimeError, match="no simulation runs here"):
        simulated_clock()


@pytest.mark.parametrize("allowed", [False, True])
def test_everything_is_put_back_afterwards(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    runner: Any = trio._core._run
    monkeypatch.setattr(runner, "_ALLOW_DETERMINISTIC_SCHEDULING", allowed)
    before = random.getstate(), runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING

    async def body() -> None:
        assert ambient().simulated
        assert runner._ALLOW_DETERMINISTIC_SCHEDULING
        await anyio.sleep(random.random())
        msg = "no"
        raise LookupError(msg)

    with pytest.raises(LookupError):
        run_simulated(body, seed=12_345)
    after = random.getstate(), runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING
    assert after == before
    assert not ambient().simulated
    assert isinstance(ambient().clock, SystemClock)


def test_the_seed_decides_identifiers_and_random_numbers() -> None:
    async def body() -> tuple[str, float]:
        async with Hodei(providers=[MemoryProvider(hour)]) as hodei:
            return (await hodei.submit("x")).id, random.random()

    first, again, other = (run_simulated(body, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_the_seed_decides_which_of_several_tasks_comes_first() -> None:
    async def body() -> str:
        order: list[str] = []

        async def tell(name: str) -> None:
            await anyio.sleep(1)
            order.append(name)

        async with anyio.create_task_group() as tasks:
            for name in "abcdefgh":
                tasks.start_soon(tell, name)
        return "".join(order)

    orders = [run_simulated(body, seed=seed) for seed in range(5)]
    assert orders == [run_simulated(body, seed=seed) for seed in range(5)]
    assert len(set(orders)) == 5


def test_a_local_provider_is_refused_by_name() -> None:
    async def body() -> None:
        async with Hodei():
            pass

    with pytest.raises(ProvisionError, match="LocalProvider cannot work in a simulation") as raised:
        run_simulated(body)
    assert raised.value.permanent


def test_a_simulation_in_which_everything_waits_for_ever_fails_and_says_where() -> None:
    async def body() -> None:
        async with Hodei(providers=[MemoryProvider(forever)]) as hodei:
            job = await hodei.submit("x")
            await job.wait()

    with pytest.raises(SimulationStalledError) as raised:
        run_simulated(body)
    message = str(raised.value)
    assert "every task waits, and nothing is due, ever" in message
    assert f"\n  main: {__name__}:" in message
    assert re.search(rf"\n  hodei slot of memory-\w+: {__name__}:\d+ in forever", message)


def test_a_stalled_simulation_runs_its_clean_up() -> None:
    cleaned = []

    async def body() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            cleaned.append(anyio.current_time())

    with pytest.raises(SimulationStalledError):
        run_simulated(body)
    assert cleaned == [5]


def test_a_stalled_simulation_fails_though_its_body_hides_the_cancellation() -> None:
    async def body() -> int:
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            msg = "hidden"
            raise KeyError(msg) from error
        return 0

    with pytest.raises(SimulationStalledError) as raised:
        run_simulated(body)
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_simulation_that_goes_on_for_ever_fails_at_its_limit() -> None:
    async def body() -> None:
        for _ in itertools.count():
            await anyio.sleep(10)

    with pytest.raises(SimulationStalledError, match="not ended after 100 s of virtual time"):
        run_simulated(body, limit=100)


def test_a_simulation_may_take_all_of_its_limit() -> None:
    run_simulated(anyio.sleep, 100, limit=100)


def test_a_stalled_simulation_that_cannot_be_cancelled_fails_too() -> None:
    async def body() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    with pytest.raises(SimulationStalledError, match="does not end when cancelled"):
        run_simulated(body)
    assert run_simulated(anyio.sleep, 1) is None, "the next one runs"


def test_who_waits_for_a_thread_is_not_stalled() -> None:
    async def body() -> int:
        return await anyio.to_thread.run_sync(sum, range(2_000_000))

    assert run_simulated(body) == sum(range(2_000_000))


@simulated
async def test_it_can_be_waited_until_all_tasks_are_blocked() -> None:
    seen = []

    async def later() -> None:
        await anyio.sleep(5)
        seen.append(5)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(later)
        for _ in range(5):
            await anyio.wait_all_tasks_blocked()
        assert (seen, anyio.current_time()) == ([], 0)


@simulated
async def test_sleeps_of_the_clock_and_of_the_loop_end_in_the_order_of_their_times() -> None:
    clock, seen = simulated_clock(), []

    async def sleep(seconds: float, *, by_clock: bool) -> None:
        await (clock.sleep if by_clock else anyio.sleep)(seconds)
        seen.append((anyio.current_time(), by_clock))

    async with anyio.create_task_group() as tasks:
        for seconds in (3, 1, 2):
            tasks.start_soon(partial(sleep, seconds, by_clock=True))
            tasks.start_soon(partial(sleep, seconds + 0.5, by_clock=False))
    assert seen == [(1, True), (1.5, False), (2, True), (2.5, False), (3, True), (3.5, False)]


@simulated
async def test_a_sleep_of_the_clock_can_be_cancelled_and_is_forgotten() -> None:
    clock = simulated_clock()
    for _ in range(1_000):
        with anyio.move_on_after(1) as scope:
            await clock.sleep(3600)
        assert scope.cancelled_caught
    assert anyio.current_time() == 1_000
    with anyio.CancelScope() as scope:
        scope.cancel()
        await clock.sleep(3600)
    await clock.sleep(3600)
    assert anyio.current_time() == 4_600


@simulated
async def test_a_sleep_of_no_time_lets_others_run() -> None:
    seen = []

    async def other() -> None:
        seen.append("other")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(3):
            await simulated_clock().sleep(0)
        assert (seen, anyio.current_time()) == (["other"], 0)


def test_who_wakes_from_a_thread_and_waits_for_another_is_not_stalled() -> None:
    async def body() -> None:
        for _ in range(3):
            await anyio.to_thread.run_sync(time.sleep, 0.4)

    run_simulated(body)  # 1.2 s in all, of which no second without a step


def test_a_trio_that_lacks_the_names_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING")
    monkeypatch.setattr(trio, "__version__", "9.9.9")
    with pytest.raises(RuntimeError, match=r"trio 9\.9\.9: .*_ALLOW_DETERMINISTIC_SCHEDULING"):
        run_simulated(anyio.sleep, 0)


def test_without_trio_it_says_what_to_install() -> None:
    program = """
import sys
sys.modules["trio"] = None
from hodei_core.testing import run_simulated
async def main(): pass
try:
    run_simulated(main)
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install trio" in done.stdout


@pytest.mark.parametrize("name", ["pytest", "trio", "hypothesis"])
def test_importing_the_aids_needs_no_test_runner_and_no_trio(name: str) -> None:
    program = f"import sys; sys.modules[{name!r}] = None; from hodei_core.testing import simulated"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@simulated
async def test_jobs_that_wait_and_time_out_take_no_time() -> None:
    async with Hodei(providers=[MemoryProvider(hour, slots=4)]) as hodei:
        jobs = await hodei.submit_many(["x"] * 3)
        slow = await hodei.submit("x", timeout=1800)
        assert [(await job.wait()).state for job in jobs] == [JobState.SUCCEEDED] * 3
        assert (await slow).state is JobState.TIMED_OUT
