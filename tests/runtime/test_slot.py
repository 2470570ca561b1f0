from __future__ import annotations

from datetime import datetime, timezone

import anyio
import pytest

from hodei_core import Clock, Job, JobId, JobSpec, Reason, SystemClock, WorkerId
from hodei_core.backends.memory.provider import MemorySession
from hodei_core.endings import Ending
from hodei_core.executions import Execution, Exit
from hodei_core.ports import AttemptOutput, WorkerLostError
from hodei_core.runtime.log_buffer import LogBuffer
from hodei_core.runtime.run import Run
from hodei_core.runtime.slot import Slot
from tests.runtime.workshop import LIMIT, Workshop

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Host:
    """What a slot and a run need of a host, and what they told it."""

    def __init__(self) -> None:
        self.ended: list[Run] = []
        self.end = anyio.Event()

    @property
    def clock(self) -> Clock:
        return SystemClock()

    def run_started(self, run: Run) -> None:
        return None

    def log_of(self, run: Run) -> LogBuffer:
        raise AssertionError

    async def prepare(self, run: Run) -> None:
        raise AssertionError

    async def settle_log(self, log: LogBuffer) -> None:
        raise AssertionError

    def run_ended(self, run: Run, slot: Slot) -> None:
        assert slot.idle
        self.ended.append(run)
        self.end.set()

    async def cancelled_by_loop(self) -> bool:
        return False

    def escape(self, error: BaseException) -> None:
        raise error


def run_of(host: Host, command: str) -> Run:
    worker = WorkerId("w")
    job = Job.accepted(id=JobId("j"), spec=JobSpec(command), seq=1, at=NOW)
    return Run(host, job.assigned(worker, "memory", NOW), worker)


async def test_what_is_ended_before_the_slot_serves_never_starts(workshop: Workshop) -> None:
    host = Host()
    slot = Slot(MemorySession(workshop.handle), host)
    run = run_of(host, "hang")
    slot.give(run)
    run.stop(Reason.CANCELLED)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slot.serve)
            await host.end.wait()
            tasks.cancel_scope.cancel()
    assert run.ending is not None
    assert run.ending.never_started
    assert workshop.started == []


@pytest.mark.parametrize("checkpoints", range(6))
async def test_ended_at_any_moment_it_reports_once_and_serves_on(
    workshop: Workshop, checkpoints: int
) -> None:
    host = Host()
    slot = Slot(MemorySession(workshop.handle), host)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slot.serve)
            first = run_of(host, "hang")
            slot.give(first)
            for _ in range(checkpoints):
                await anyio.lowlevel.checkpoint()
            first.stop(Reason.CANCELLED)
            await host.end.wait()
            host.end = anyio.Event()
            second = run_of(host, "exit 3")
            slot.give(second)
            await host.end.wait()
            tasks.cancel_scope.cancel()
    assert host.ended == [first, second]
    assert isinstance(second.ending, Ending)
    assert second.ending.exit is not None
    assert second.ending.exit.code == 3


async def test_a_worker_that_goes_away_takes_its_attempt_along(workshop: Workshop) -> None:
    host = Host()
    slot = Slot(MemorySession(workshop.handle), host)
    run = run_of(host, "hang")
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slot.serve)
            slot.give(run)
            await workshop.has_started("hang")
            tasks.cancel_scope.cancel()
    assert host.ended == [run]
    assert run.ending is not None
    assert run.ending.cause is Reason.WORKER_LOST


class Falls(MemorySession):
    """A line that is lost as soon as it is given something."""

    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        output.started()
        raise WorkerLostError("it fell")


@pytest.mark.parametrize("certain", [True, False])
async def test_an_attempt_on_a_lost_worker_ends_when_that_is_gone_or_stays_open(
    workshop: Workshop, certain: bool
) -> None:
    gone = anyio.Event()

    async def until_gone(why: str) -> bool:
        assert why == "it fell"
        await gone.wait()
        return certain

    host = Host()
    slot = Slot(Falls(workshop.handle), host, until_gone)
    run = run_of(host, "x")
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slot.serve)
            slot.give(run)
            await anyio.wait_all_tasks_blocked()
            run.stop(Reason.CANCELLED)
            await anyio.wait_all_tasks_blocked()
            assert not slot.idle
            assert run.ending is None
            gone.set()
            await slot.until_idle()
            tasks.cancel_scope.cancel()
    assert host.ended == ([run] if certain else [])
    assert (run.ending is not None) is certain
