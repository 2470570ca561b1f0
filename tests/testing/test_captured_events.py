from __future__ import annotations

import anyio
import pytest

from hodei_core import (
    Event,
    Hodei,
    JobAssigned,
    JobEvent,
    JobFinished,
    JobStarted,
    JobState,
    JobSubmitted,
)
from hodei_core.runtime.event_bus import BACKLOG
from hodei_core.testing import CapturedEvents, capture_events
from tests.runtime.workshop import LIMIT, Workshop


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


async def test_events_are_there_as_soon_as_what_they_tell_can_be_known(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei, JobEvent) as captured:
                job = await hodei.submit("exit 3")
                await job.wait()
                kinds = [type(event) for event in captured]
    assert kinds == [JobSubmitted, JobAssigned, JobStarted, JobFinished]


async def test_only_the_types_that_are_named_are_captured(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei, JobSubmitted, JobFinished) as captured:
                await hodei.run("exit 0")
    assert [type(event) for event in captured] == [JobSubmitted, JobFinished]


async def test_it_is_a_sequence(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei) as captured:
                assert len(captured) == 0
                assert not captured
                await hodei.run("exit 4")
    last = captured[-1]
    assert isinstance(last, JobFinished)
    assert captured[-1:] == [last]
    assert last in captured
    assert captured.index(last) == len(captured) - 1
    assert captured.of(JobFinished) == [last]
    assert "JobFinished" in repr(captured)


async def test_what_came_before_and_after_the_block_is_not_captured(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            await hodei.run("exit 0")
            async with capture_events(hodei, JobFinished) as captured:
                job = await hodei.submit("exit 1")
                await job.wait()
            await hodei.run("exit 2")
    assert [event.exit_code for event in captured] == [1]


async def test_a_wait_returns_the_first_event_of_a_type(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei) as captured:
                job = await hodei.submit("gate a")
                started = await captured.wait_for(JobStarted)
                assert (started.job_id, started.attempt) == (job.id, 1)
                workshop.open("a")
                finished = await captured.wait_for(JobFinished)
                assert finished.state is JobState.SUCCEEDED


async def test_a_wait_counts_what_came_before_it(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei) as captured:
                await hodei.run("exit 1")
                workshop.open("a")
                jobs = await hodei.submit_many(["exit 2", "gate a", "exit 3"])
                ends = await captured.wait_for(JobFinished, count=3)
                await hodei.join()
    assert len(ends) == 3
    assert ends[0].exit_code == 1
    assert len(captured.of(JobFinished)) == len(jobs) + 1


async def test_a_wait_takes_a_function_that_says_what_is_wanted(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei, JobFinished) as captured:
                await hodei.submit_many(["exit 1", "exit 0", "exit 5"])
                found = await captured.wait_for(lambda event: event.exit_code == 5)
                failed = await captured.wait_for(lambda event: event.exit_code != 0, count=2)
    assert found.exit_code == 5
    assert [event.exit_code for event in failed] == [1, 5]


async def test_several_tasks_can_wait_at_once(workshop: Workshop) -> None:
    found: list[Event] = []
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei) as captured:

                async def wait(kind: type[Event]) -> None:
                    found.append(await captured.wait_for(kind))

                async with anyio.create_task_group() as tasks:
                    for kind in (JobFinished, JobFinished, JobStarted):
                        tasks.start_soon(wait, kind)
                    await anyio.wait_all_tasks_blocked()
                    await hodei.submit("exit 0")
    assert sorted(type(event).__name__ for event in found) == [
        "JobFinished",
        "JobFinished",
        "JobStarted",
    ]


async def test_a_wait_that_is_cancelled_harms_no_other(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei) as captured:
                with anyio.move_on_after(0.01):
                    await captured.wait_for(JobFinished)
                await hodei.submit("exit 6")
                finished = await captured.wait_for(JobFinished)
    assert finished.exit_code == 6


async def test_a_wait_ends_when_no_more_can_come(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei) as captured:
                await hodei.run("exit 0")
        with pytest.raises(LookupError, match="of 2 that fit JobFinished there were 1"):
            await captured.wait_for(JobFinished, count=2)
        assert len(await captured.wait_for(JobFinished, count=1)) == 1


async def test_a_wait_ends_when_the_hodei_closes(workshop: Workshop) -> None:
    captured: CapturedEvents[JobFinished]
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            async with Hodei(providers=[workshop.provider()]) as hodei:
                capture = capture_events(hodei, JobFinished)
                captured = await capture.__aenter__()

                async def wait() -> None:
                    with pytest.raises(LookupError):
                        await captured.wait_for(JobFinished)

                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
        await capture.__aexit__(None, None, None)


async def test_none_is_lost_however_many_come_between_two_looks(workshop: Workshop) -> None:
    async with Hodei(providers=[]) as hodei:
        async with capture_events(hodei, JobSubmitted) as captured:
            await hodei.submit_many(["true"] * (BACKLOG + 1000))
            assert len(captured) == BACKLOG + 1000
        await hodei.cancel_jobs()


async def test_an_error_of_the_block_comes_out_as_it_was_raised(workshop: Workshop) -> None:
    with pytest.raises(KeyError):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei):
                raise KeyError


async def test_a_count_below_one_is_refused(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        async with capture_events(hodei) as captured:
            with pytest.raises(ValueError, match="count must be a whole number from 1"):
                await captured.wait_for(JobFinished, count=0)


async def test_what_is_no_event_is_refused(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        with pytest.raises(TypeError, match="classes of events"):
            capture_events(hodei, str)  # type: ignore[type-var]
