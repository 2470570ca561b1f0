"""What a type checker must accept and refuse; checked by mypy, never run.

Each ignored error is one that must be found: an ignore without an error is an error itself.
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import assert_type

from hodei_core import (
    Event,
    EventStream,
    Hodei,
    Job,
    JobFinished,
    JobHandle,
    JobResult,
    JobSpec,
    JobState,
    LogEntry,
    Resources,
    SubscriberLagged,
)
from hodei_core.testing import CapturedEvents, capture_events, run_simulated, simulated


async def accepted(hodei: Hodei) -> None:
    assert_type(await hodei.submit("true"), JobHandle)
    assert_type(await hodei.submit(["cat", Path("x")], name="n", timeout=1.5), JobHandle)
    assert_type(await hodei.submit(JobSpec("true", priority=3)), JobHandle)
    assert_type(await hodei.run("true", check=True, env={"A": "b"}), JobResult)
    assert_type(await hodei.run(JobSpec("true"), check=True), JobResult)
    assert_type(await hodei.submit_many(["true", ["true"], JobSpec("true")]), list[JobHandle])
    assert_type(await hodei.handle("x"), JobResult)
    assert_type(await hodei.get_job("x"), Job)
    assert_type(hodei.events(), EventStream[Event])
    assert_type(hodei.events(JobFinished), EventStream[JobFinished | SubscriberLagged])
    async with hodei.events(JobFinished) as ends:
        async for end in ends:
            if not isinstance(end, SubscriberLagged):
                assert_type(end.state, JobState)
    job = await hodei.submit("true", resources=Resources(cpus=0.5, memory="512MiB"))
    async for entry in job.logs(tail=3):
        assert_type(entry, LogEntry)
    async for batch in job.logs().batches():
        assert_type(batch, list[LogEntry])


async def refused(hodei: Hodei) -> None:
    await hodei.submit("true", tiemout=3)  # type: ignore[call-overload]
    await hodei.submit("true", timeout="3")  # type: ignore[call-overload]
    await hodei.submit(JobSpec("true"), name="n")  # type: ignore[call-overload]
    await hodei.submit(3)  # type: ignore[call-overload]
    await hodei.submit(command="true")  # type: ignore[call-overload]
    await hodei.run("true", check="yes")  # type: ignore[call-overload]


async def captured(hodei: Hodei) -> None:
    async with capture_events(hodei) as everything:
        assert_type(everything[0], Event)
        assert_type(everything.of(JobFinished), list[JobFinished])
    async with capture_events(hodei, JobFinished) as some:
        assert_type(some, CapturedEvents[JobFinished])
        assert_type(await some.wait_for(JobFinished), JobFinished)
        assert_type(await some.wait_for(JobFinished, count=2), list[JobFinished])
        assert_type(
            await some.wait_for(lambda event: event.version == 3, count=1),
            list[JobFinished],
        )
        await some.wait_for("x")  # type: ignore[call-overload]
    capture_events(hodei, str)  # type: ignore[type-var]


@simulated(seed=7)
async def simulated_with_a_seed(number: int) -> str:
    return str(number)


@simulated
async def simulated_alone(number: int) -> str:
    return str(number)


async def in_virtual_time(number: int) -> str:
    return str(number)


def simulations() -> None:
    assert_type(simulated_with_a_seed(3), str)
    assert_type(simulated_alone(3), str)
    assert_type(run_simulated(in_virtual_time, 3), str)
    simulated_alone("x")  # type: ignore[arg-type]
    simulated(seed="x")  # type: ignore[call-overload]
