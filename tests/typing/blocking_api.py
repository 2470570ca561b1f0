"""What a type checker must accept and refuse of the blocking twin; checked by mypy, never run.

Each ignored error is one that must be found: an ignore without an error is an error itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import assert_type

import hodei_core
from hodei_core import (
    Event,
    Explanation,
    Job,
    JobFinished,
    JobResult,
    JobSpec,
    JobState,
    LogEntry,
    Resources,
    Stats,
    SubscriberLagged,
    Worker,
)
from hodei_core.blocking import EventStream, Hodei, JobHandle, LogStream


def accepted() -> JobResult:
    with Hodei(providers=[]) as hodei:
        assert_type(hodei, Hodei)
        assert_type(hodei.submit("true"), JobHandle)
        assert_type(hodei.submit(["cat", Path("x")], name="n", timeout=1.5), JobHandle)
        assert_type(hodei.submit(JobSpec("true", priority=3)), JobHandle)
        assert_type(hodei.run(JobSpec("true"), check=True), JobResult)
        assert_type(hodei.submit_many(["true", ["true"], JobSpec("true")]), list[JobHandle])
        assert_type(hodei.handle("x").wait(), JobResult)
        assert_type(hodei.get_job("x"), Job)
        assert_type(hodei.list_jobs(states=JobState.PENDING), list[Job])
        assert_type(hodei.list_workers(), list[Worker])
        assert_type(hodei.stats(), Stats)
        assert_type(hodei.cancel_jobs(), int)
        assert_type(hodei.events(), EventStream[Event])
        assert_type(hodei.events(JobFinished), EventStream[JobFinished | SubscriberLagged])
        with hodei.events(JobFinished) as ends:
            for end in ends:
                if not isinstance(end, SubscriberLagged):
                    assert_type(end.state, JobState)
        job = hodei.submit("true", resources=Resources(cpus=0.5, memory="512MiB"))
        assert_type(job.logs(tail=3), LogStream)
        for entry in job.logs():
            assert_type(entry, LogEntry)
        assert_type(job.logs().batches(), Iterator[list[LogEntry]])
        assert_type(job.output(), bytes)
        assert_type(job.explain(), Explanation)
        assert_type(job.retry(), JobHandle)
        # The block swallows nothing: a checker that thought so would miss a return below.
        return hodei.run("true", check=True, env={"A": "b"})


def refused(hodei: Hodei, other: hodei_core.Hodei) -> None:
    hodei.submit("true", tiemout=3)  # type: ignore[call-overload]
    hodei.submit("true", timeout="3")  # type: ignore[call-overload]
    hodei.submit(JobSpec("true"), name="n")  # type: ignore[call-overload]
    hodei.submit(3)  # type: ignore[call-overload]
    hodei.submit(command="true")  # type: ignore[call-overload]
    hodei.run("true", check="yes")  # type: ignore[call-overload]
    hodei.handle("x").wait(until=3)  # type: ignore[call-arg]
    hodei.events(JobSpec)  # type: ignore[type-var]
    for _ in other.handle("x").logs():  # type: ignore[attr-defined]
        pass


async def refused_in_async_code(hodei: Hodei) -> None:
    await hodei.stats()  # type: ignore[misc]
    await hodei.handle("x")  # type: ignore[misc]
    async with hodei:  # type: ignore[attr-defined]
        pass
