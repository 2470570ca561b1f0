"""A job that finds a slot free is stored as assigned to it; nobody is overtaken by that."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import anyio
import pytest

from hodei_core import (
    Hodei,
    JobAssigned,
    JobFinished,
    JobHandle,
    JobResult,
    JobState,
    JobSubmitted,
    QueueFullError,
    Reason,
    Resources,
)
from hodei_core.backends.memory import MemoryStore
from hodei_core.ports import Accept, Advance, Change, Outcome
from hodei_core.testing import capture_events
from tests.runtime.workshop import LIMIT, Workshop, until


class Watched(MemoryStore):
    """Remembers what it was asked; holds back the answer to one change that is named."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Change] = []
        self.kind: type[Change] | None = None
        self.stored = anyio.Event()
        self.answer = anyio.Event()

    def hold_back(self, kind: type[Change]) -> None:
        """Answer the next change of this kind only when told to."""
        self.kind = kind
        self.stored = anyio.Event()
        self.answer = anyio.Event()

    @property
    def begun(self) -> list[str]:
        """The commands of the jobs that were to begin as they were stored."""
        return [
            str(submission.spec.command)
            for change in self.asked
            if isinstance(change, Accept)
            for submission in change.submissions
            if submission.attempt is not None
        ]

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        outcomes = await super().apply(changes)
        self.asked += changes
        if self.kind is not None and any(isinstance(change, self.kind) for change in changes):
            self.kind = None
            self.stored.set()
            await self.answer.wait()
        return outcomes


async def test_a_job_that_finds_a_slot_free_is_stored_as_assigned_to_it(
    workshop: Workshop,
) -> None:
    store = Watched()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider()]) as hodei:
            async with capture_events(hodei, JobSubmitted, JobAssigned, JobFinished) as events:
                result = await hodei.run("exit 0")
                await until(lambda: len(events) == 3)
            kinds = [type(change) for change in store.asked if isinstance(change, Accept | Advance)]
            assert kinds == [Accept, Advance]
            assert store.begun == ["exit 0"]
            assert [(type(event), event.version) for event in events] == [
                (JobSubmitted, 1),
                (JobAssigned, 2),
                (JobFinished, 4),
            ]
            (attempt,) = result.attempts
            assert attempt.assigned_at == result.submitted_at
            history = (await hodei.handle(result.job_id).explain()).history
            assert result.finished_at is not None
            spent = sum((span for _, span, _ in history), start=timedelta())
            assert spent == result.finished_at - result.submitted_at


async def test_the_log_tells_of_it_as_of_any_other(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hodei_core.jobs")
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            await hodei.run("exit 0")
    told = [(record.action, record.attempt) for record in caplog.records]  # type: ignore[attr-defined]
    assert told == [("submitted", None), ("assigned", 1), ("started", 1), ("finished", 1)]


async def test_those_that_have_to_wait_are_stored_as_waiting(workshop: Workshop) -> None:
    store = Watched()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider(slots=2)]) as hodei:
            await hodei.submit("exit 0", delay=0.001)
            assert (await hodei.run("exit 1", requires={"gpu": "yes"})).reason is (
                Reason.UNSCHEDULABLE
            )
            for job in await hodei.submit_many(["exit 2", "exit 3"]):
                await job.wait()
            await hodei.drain()
            drained = await hodei.submit("exit 4")
            assert (await drained.snapshot()).state is JobState.PENDING
            await hodei.resume()
            await drained.wait()
            await hodei.join()
            assert store.begun == []
            assert (await hodei.run("exit 0")).ok
    assert store.begun == ["exit 0"]


async def test_a_worker_for_one_job_is_not_used_up_by_a_submission_that_is_refused(
    workshop: Workshop,
) -> None:
    provider = workshop.provider(max_jobs=1, min_workers=1)
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider], max_pending=1) as hodei:
            (worker,) = await hodei.list_workers()
            await hodei.submit("exit 0", delay=3600)
            with pytest.raises(QueueFullError):
                await hodei.submit("exit 0")
            assert [one.id for one in await hodei.list_workers()] == [worker.id]
            await hodei.cancel_jobs()
            result = await hodei.run("exit 0")
    assert result.attempts[0].worker_id == worker.id


async def test_a_slot_is_free_again_when_nothing_new_was_stored(workshop: Workshop) -> None:
    store = Watched()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider()], max_pending=1) as hodei:
            first = await hodei.run("exit 0", key="k")
            again = await hodei.run("exit 0", key="k")
            assert again.job_id == first.job_id
            assert (await hodei.run("exit 1")).exit_code == 1
            await hodei.submit("exit 0", delay=3600)
            with pytest.raises(QueueFullError):
                await hodei.submit("exit 2")
            await hodei.cancel_jobs()
            assert (await hodei.run("exit 3")).exit_code == 3
    assert store.begun == ["exit 0", "exit 0", "exit 1", "exit 2", "exit 3"]
    assert workshop.started == ["exit 0", "exit 1", "exit 3"]


async def test_a_drain_ends_though_a_slot_was_held_for_nothing_new(workshop: Workshop) -> None:
    store = Watched()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider()]) as hodei:
            await hodei.run("exit 0", key="k")
            store.hold_back(Accept)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(hodei.submit, "exit 0", key="k"))
                await store.stored.wait()
                tasks.start_soon(hodei.drain)
                await anyio.wait_all_tasks_blocked()
                store.answer.set()
    assert store.begun == ["exit 0", "exit 0"]


async def test_none_begins_while_one_that_will_wait_is_on_its_way(workshop: Workshop) -> None:
    store = Watched()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider()]) as hodei:
            first = await hodei.submit("gate first")
            await workshop.has_started("gate first")
            store.hold_back(Accept)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hodei.submit, "gate second")
                await store.stored.wait()
                workshop.open("first")
                await first.wait()
                third = await hodei.submit("exit 3")
                store.answer.set()
            workshop.open("second")
            await third.wait()
            await hodei.join()
            assert store.begun == ["gate first"]
            assert (await hodei.run("exit 4")).exit_code == 4
    assert store.begun == ["gate first", "exit 4"]


async def test_those_behind_a_class_that_cannot_be_placed_begin(workshop: Workshop) -> None:
    store = Watched()
    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider(slots=2)]) as hodei:
            await hodei.submit("gate small")
            large = await hodei.submit("exit 0", resources=Resources(cpus=2))
            await hodei.run("exit 1")  # in its turn, after it was decided that the large one waits
            assert (await hodei.run("exit 7")).exit_code == 7
            workshop.open("small")
            await large.wait()
    assert store.begun == ["gate small", "exit 7"]


async def test_a_cancel_that_comes_before_it_is_known_that_a_job_begins_is_not_lost(
    workshop: Workshop,
) -> None:
    store = Watched()
    results: list[JobResult] = []

    async def cancel(job: JobHandle) -> None:
        results.append(await job.cancel("why"))

    with anyio.fail_after(LIMIT):
        async with Hodei(store, providers=[workshop.provider()]) as hodei:
            store.hold_back(Accept)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hodei.submit, "hang")
                await store.stored.wait()
                (job,) = await hodei.list_jobs()
                assert job.state is JobState.ASSIGNED
                tasks.start_soon(cancel, hodei.handle(job.id))
                await anyio.wait_all_tasks_blocked()
                store.answer.set()
            assert (await hodei.list_workers())[0].slots_used == 0
    assert [(result.state, result.message) for result in results] == [(JobState.CANCELLED, "why")]
    assert workshop.started == []


@pytest.mark.parametrize("kind", [Accept, Advance])
async def test_an_attempt_that_is_being_stored_when_the_host_stops_at_once_is_ended(
    workshop: Workshop, kind: type[Change]
) -> None:
    store = Watched()
    jobs: list[str] = []
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            hodei = Hodei(store, providers=[workshop.provider()])
            left = anyio.Event()

            async def submit() -> None:
                submitted = await hodei.submit_many(
                    ["hang"] if kind is Accept else ["hang", "hang"]
                )
                jobs.extend(job.id for job in submitted)

            async def answer() -> None:
                await left.wait()
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()
                store.answer.set()

            with pytest.raises(KeyError):
                async with hodei:
                    store.hold_back(kind)
                    tasks.start_soon(submit)
                    await store.stored.wait()
                    tasks.start_soon(answer)
                    left.set()
                    raise KeyError
    first = await hodei.get_job(jobs[0])
    assert first.state in (JobState.FAILED, JobState.CANCELLED)
    assert first.reason is Reason.INTERRUPTED
    assert workshop.live == 0
