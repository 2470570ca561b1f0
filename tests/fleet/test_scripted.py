"""The scripted provider does what its script says, and keeps the truth about it."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from hodei_core import Execution, Hodei, JobId, JobState, LogSource, Reason, WorkerId
from hodei_core.ids import HostId
from hodei_core.ports import ProviderHost
from hodei_core.testing import (
    Act,
    FakeClock,
    LiveExecution,
    Making,
    ScriptedProvider,
    run_simulated,
    simulated,
)
from tests.fleet.helpers import AGAIN, assert_nothing_left, policy, settled


@simulated
async def test_a_job_takes_its_time_and_prints_over_it() -> None:
    provider = ScriptedProvider(
        {
            "build": Act(takes=9, prints=["one", "two\n", b"three"], warns="careful", exit_code=3),
            "make -j 4": Act(takes=1),
        }
    )
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("make all", name="build")
        entries = [entry async for entry in job.logs()]
        start = (await job.snapshot()).started_at
        assert start is not None
        assert [
            ((entry.at - start).total_seconds(), entry.source, entry.data) for entry in entries
        ] == [
            (0, LogSource.STDOUT, b"one\n"),
            (0, LogSource.STDERR, b"careful\n"),
            (3, LogSource.STDOUT, b"two\n"),
            (9, LogSource.STDOUT, b"three"),
        ]
        result = await job.wait()
        assert (result.exit_code, result.duration) == (3, timedelta(seconds=9))
        assert (await hodei.run(["make", "-j", "4"])).duration == timedelta(seconds=1)
        assert (await hodei.run("anything else")).duration == timedelta(0)


@simulated
async def test_a_function_may_say_what_jobs_do_and_what_becomes_of_workers() -> None:
    asked: list[int] = []

    def act(execution: Execution) -> Act:
        return Act(exit_code=execution.attempt - 1)

    def making(number: int) -> Making:
        asked.append(number)
        return Making(delay=number)

    provider = ScriptedProvider(act, makings=making, policy=policy(max_jobs=1))
    async with Hodei(providers=[provider]) as hodei:
        assert (await hodei.run("x")).ok
        assert (await hodei.run("x")).ok
    assert asked == [1, 2]
    spans = [(worker.ready_at or 0) - worker.asked_at for worker in provider.workers.values()]
    assert spans == pytest.approx([1, 2])


@simulated
async def test_jobs_fail_are_refused_cannot_start_and_never_end() -> None:
    provider = ScriptedProvider(
        {
            "fails": Act(fails=2),
            "refused": Act(refuses=2),
            "cannot": Act(cannot_start="no such program"),
            "forever": Act(ends=False, prints="up"),
            "late": Act(start_delay=7),
        }
    )
    async with Hodei(providers=[provider]) as hodei:
        result = await hodei.run("fails", retry=AGAIN)
        assert [attempt.exit_code for attempt in result.attempts] == [1, 1, 0]
        refused = await hodei.submit("refused")
        assert (await refused.wait()).ok
        assert len((await refused.snapshot()).attempts) == 1
        assert (await hodei.run("cannot")).reason is Reason.START_FAILED
        late = await hodei.run("late")
        assert late.started_at is not None
        assert late.started_at - late.submitted_at == timedelta(seconds=7)
        forever = await hodei.submit("forever")
        await anyio.sleep(1000)
        assert (await forever.snapshot()).state is JobState.RUNNING
        assert (await forever.cancel()).exit_code == 143


@simulated
async def test_a_job_that_ignores_its_end_lasts_until_its_grace_is_over() -> None:
    provider = ScriptedProvider(Act(ends=False, ignores_end=True))
    async with Hodei(providers=[provider]) as hodei:
        job = await hodei.submit("x", grace=4)
        await anyio.sleep(1)
        assert (await job.cancel()).exit_code == 137
        assert anyio.current_time() == pytest.approx(5)


@simulated
async def test_what_is_outside_can_be_read_at_any_time() -> None:
    provider = ScriptedProvider(
        Act(takes=10), makings=[Making(delay=2), Making(delay=4)], policy=policy(idle_timeout=20)
    )
    async with Hodei(providers=[provider]) as hodei:
        jobs = await hodei.submit_many(["x", "x"])
        await anyio.sleep(1)
        assert (provider.asked, provider.alive, provider.executing) == (2, [], [])
        await anyio.sleep(2)
        assert len(provider.alive) == 1
        await anyio.sleep(2)
        assert provider.executing == [
            LiveExecution(job.id, 1, worker_id)
            for job, worker_id in zip(jobs, provider.workers, strict=True)
        ]
        assert provider.asked_at == [0, 0]
        await anyio.sleep(60)
        assert (provider.alive, provider.executing, provider.most_alive) == ([], [], 2)
        assert len(provider.executed) == 2
        first = provider.workers[provider.executed[0].worker_id]
        assert repr(first) == f"<ScriptedWorker {first.id} ended>"
        assert (first.number, first.ready_at, first.discards) == (1, 2, 1)
        assert first.gone_at == pytest.approx(12 + 20, abs=1.1)
        assert provider.discards == 2


@simulated
async def test_two_attempts_of_one_job_at_once_are_told() -> None:
    provider = ScriptedProvider(Act(ends=False))
    outside = provider._outside
    job = JobId("job")
    first, second = LiveExecution(job, 1, WorkerId("a")), LiveExecution(job, 2, WorkerId("b"))
    outside.begin(first)
    assert provider.overlaps == []
    outside.begin(second)
    assert provider.overlaps == [(first, second)]


@simulated
async def test_only_a_worker_that_is_there_can_be_lost_or_silenced() -> None:
    provider = ScriptedProvider(Act(takes=10), policy=policy(lease=3))
    async with Hodei(providers=[provider]) as hodei:
        with pytest.raises(ValueError, match="no worker 'nobody', alive are: none"):
            provider.lose(WorkerId("nobody"))
        await hodei.submit("x")
        await settled()
        (worker_id,) = provider.alive
        provider.lose(worker_id)
        with pytest.raises(ValueError, match="no worker"):
            provider.silence(worker_id)


def test_one_seed_gives_one_history() -> None:
    async def main() -> list[tuple[str, float]]:
        provider = ScriptedProvider(
            Act(takes=3),
            makings=lambda n: Making(delay=n % 3, lost_after=7 if n % 2 else None),
            slots=2,
            policy=policy(idle_timeout=2, lease=3),
        )
        async with Hodei(providers=[provider]) as hodei:
            for job in await hodei.submit_many(["x"] * 30):
                await job.wait()
        assert_nothing_left(provider)
        return [(worker.id, worker.gone_at or 0) for worker in provider.workers.values()]

    assert run_simulated(main, seed=4) == run_simulated(main, seed=4)
    assert run_simulated(main, seed=4) != run_simulated(main, seed=5)


@simulated
async def test_its_workers_are_made_on_the_clock_of_the_host() -> None:
    clock = FakeClock()
    provider = ScriptedProvider(makings=Making(delay=5))
    await provider.open(ProviderHost(host_id=HostId("host"), clock=clock))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(provider.provision, WorkerId("w"))
        await anyio.sleep(100)
        assert provider.alive == []
        clock.advance(5)
        await settled()
        assert provider.alive == ["w"]
    assert provider.workers[WorkerId("w")].ready_at == 5


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"takes": -1}, "takes must be 0 or more seconds, not -1"),
        ({"takes": float("nan")}, "takes must be a finite number of seconds, not nan"),
        ({"start_delay": -0.5}, "start_delay must be 0 or more seconds, not -0.5"),
        ({"exit_code": 256}, "exit_code must be a whole number from 0 to 255, not 256"),
        ({"exit_code": True}, "exit_code must be a whole number from 0 to 255, not True"),
        ({"fails": -1}, "fails must be a whole number from 0, not -1"),
        ({"refuses": 1.5}, "refuses must be a whole number from 0, not 1.5"),
    ],
    ids=str,
)
def test_what_a_job_cannot_do_is_refused(fields: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Act(**fields)  # type: ignore[arg-type]


def making(field: str, value: object) -> Making:
    return Making(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field",
    ["delay", "late", "lost_after", "silent_after", "heartbeat_takes"],
)
def test_what_no_worker_can_do_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be 0 or more seconds, not -1"):
        making(field, -1)
    with pytest.raises(TypeError, match=f"{field} must be seconds"):
        making(field, "1")
    assert getattr(making(field, 1.5), field) == timedelta(seconds=1.5)


@pytest.mark.parametrize("field", ["heartbeat_failures", "end_failures"])
def test_what_no_worker_can_count_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be a whole number from 0, not -1"):
        making(field, -1)


def test_a_script_says_something_of_workers() -> None:
    with pytest.raises(ValueError, match="makings must not be empty"):
        ScriptedProvider(makings=[])
    with pytest.raises(ValueError, match="slots must be a whole number from 1, not 0"):
        ScriptedProvider(slots=0)
    with pytest.raises(ValueError, match="slots must be at most 65536, not 65537"):
        ScriptedProvider(slots=65_537)


def test_a_script_shows_what_it_says() -> None:
    assert "takes=datetime.timedelta(seconds=3)" in repr(Act(takes=3))
    assert Act(prints="a") == Act(prints=["a\n"]) != Act(prints=b"a")
    assert Making(delay=1) == Making(delay=timedelta(seconds=1))
