from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import anyio
import pytest
from anyio.abc import TaskStatus

from hodei_core import (
    Backoff,
    Event,
    Hodei,
    JobAssigned,
    JobEvent,
    JobFinished,
    JobRetried,
    JobStarted,
    JobState,
    JobSubmitted,
    Reason,
    RetryPolicy,
    SubscriberLagged,
    WorkerReady,
)
from hodei_core.backends.memory import MemoryStore
from hodei_core.ports import Change, Outcome
from hodei_core.runtime.event_bus import BACKLOG
from tests.runtime.workshop import LIMIT, Workshop, until


async def test_a_job_s_events_come_in_the_order_of_its_states(workshop: Workshop) -> None:
    policy = RetryPolicy(max_attempts=2, backoff=Backoff(first=0))
    events: list[Event] = []
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with hodei.events() as stream:
                job = await hodei.submit("fail 1", retry=policy, name="n")
                async for event in stream:
                    events.append(event)
                    if isinstance(event, JobFinished):
                        break
            final = await job.snapshot()
    kinds = [type(event) for event in events]
    assert kinds == [
        JobSubmitted,
        JobAssigned,
        JobStarted,
        JobRetried,
        JobAssigned,
        JobStarted,
        JobFinished,
    ]
    versions = [event.version for event in events if isinstance(event, JobEvent)]
    assert versions == [1, 2, 3, 4, 5, 6, 7]
    assert final.version == 7
    retried, finished = events[3], events[-1]
    assert isinstance(retried, JobRetried)
    assert (retried.attempt, retried.reason) == (1, Reason.EXIT_CODE)
    assert isinstance(finished, JobFinished)
    assert (finished.state, finished.exit_code) == (JobState.SUCCEEDED, 0)


async def test_what_an_event_tells_can_be_read_already(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with hodei.events(JobEvent) as stream:
                await hodei.submit_many(["exit 0", "exit 1", "print x"])
                finished = 0
                async for event in stream:
                    assert isinstance(event, JobEvent)
                    assert (await hodei.get_job(event.job_id)).version >= event.version
                    finished += isinstance(event, JobFinished)
                    if finished == 3:
                        break


class Observed(MemoryStore):
    """Before each change it lets everybody go on, and compares what was told with what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[JobEvent] = []
        self.too_early: list[JobEvent] = []

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        await anyio.wait_all_tasks_blocked()
        for event in self.told:
            job = await self.jobs.get(event.job_id)
            if job is None or job.version < event.version:
                self.too_early.append(event)
        return await super().apply(changes)


async def test_nothing_is_told_before_the_commit_that_holds_it(workshop: Workshop) -> None:
    store = Observed()
    policy = RetryPolicy(max_attempts=2, backoff=Backoff(first=0))

    async def listen(hodei: Hodei, *, task_status: TaskStatus[None]) -> None:
        async with hodei.events(JobEvent) as stream:
            task_status.started()
            async for event in stream:
                assert isinstance(event, JobEvent)
                store.told.append(event)

    with anyio.fail_after(LIMIT):
        async with (
            anyio.create_task_group() as tasks,
            Hodei(store, providers=[workshop.provider()]) as hodei,
        ):
            await tasks.start(listen, hodei)
            running = await hodei.submit("gate 1")
            waiting = await hodei.submit("exit 0")
            while (await running.snapshot()).state is not JobState.RUNNING:
                await anyio.wait_all_tasks_blocked()
            await waiting.cancel()
            workshop.open("1")
            await running.wait()
            await hodei.run("fail 1", retry=policy)
            await until(lambda: sum(isinstance(e, JobFinished) for e in store.told) == 3)
    kinds = {JobSubmitted, JobAssigned, JobStarted, JobRetried, JobFinished}
    assert {type(event) for event in store.told} == kinds
    assert store.too_early == []


async def test_a_stream_holds_only_what_it_asked_for(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with hodei.events(JobFinished, WorkerReady) as stream:
                await hodei.run("exit 0")
                event = await stream.__anext__()
                assert isinstance(event, JobFinished)
            with pytest.raises(TypeError, match="classes of events"):
                hodei.events("JobFinished")  # type: ignore[call-overload]


async def test_a_slow_subscriber_is_told_how_much_it_missed(workshop: Workshop) -> None:
    with anyio.fail_after(3 * LIMIT):
        async with Hodei(providers=[workshop.provider(slots=64)]) as hodei:
            async with (
                hodei.events(JobFinished) as slow,
                hodei.events(JobFinished) as other,
            ):
                jobs = await hodei.submit_many(["exit 0"] * (BACKLOG + 100))
                seen = 0
                async for event in other:
                    seen += isinstance(event, JobFinished)
                    if seen == len(jobs):
                        break
                lagged = await slow.__anext__()
                assert isinstance(lagged, SubscriberLagged)
                assert lagged.missed == 100
                rest = 0
                async for event in slow:
                    assert isinstance(event, JobFinished)
                    rest += 1
                    if rest == BACKLOG:
                        break


async def test_streams_end_when_it_closes(workshop: Workshop) -> None:
    seen: list[Event] = []
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            async with Hodei(providers=[workshop.provider()]) as hodei:
                ready = anyio.Event()

                async def read() -> None:
                    async with hodei.events(JobFinished) as stream:
                        ready.set()
                        seen.extend([event async for event in stream])

                tasks.start_soon(read)
                await ready.wait()
                await hodei.submit("exit 0")
    assert len(seen) == 1


async def test_a_stream_outside_its_block_says_so(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        with pytest.raises(RuntimeError, match="async with"):
            await hodei.events().__anext__()


async def test_subscribers_that_raise_or_call_back_hold_nobody_else(workshop: Workshop) -> None:
    """The catalogue's G3."""
    finished: dict[str, int] = defaultdict(int)
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            started = anyio.Event()
            ready = 0

            async def attend(name: str) -> None:
                nonlocal ready
                async with hodei.events(JobFinished) as stream:
                    ready += 1
                    if ready == 3:
                        started.set()
                    async for _ in stream:
                        finished[name] += 1
                        if name == "raises":
                            raise ValueError(name)
                        if name == "calls back" and finished[name] == 1:
                            await hodei.submit("exit 0")
                            await hodei.stats()
                        if finished[name] == 3:
                            return

            async def contained(name: str) -> None:
                with pytest.raises(ValueError, match=name):
                    await attend(name)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(contained, "raises")
                tasks.start_soon(attend, "calls back")
                tasks.start_soon(attend, "listens")
                await started.wait()
                await hodei.run("exit 0")
                await hodei.run("exit 0")
    assert finished == {"raises": 1, "calls back": 3, "listens": 3}


async def test_a_stream_that_is_entered_before_the_opening_sees_all(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        hodei = Hodei(providers=[workshop.provider()])
        async with hodei.events(JobFinished) as stream, hodei:
            job = await hodei.submit("exit 0")
            await job
            event = await anext(aiter(stream))
            assert isinstance(event, JobFinished)
            assert event.job_id == job.id
