"""Nothing in a memory store grows with what has passed through it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hodei_core.backends.memory import MemoryStore
from hodei_core.backends.memory.queue import MemoryJobQueue
from hodei_core.ids import JobId, WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import (
    Accept,
    Advance,
    AppendLogs,
    CancelRequest,
    JobFilter,
    MarkDue,
    Needs,
    PutWorker,
    RemoveWorker,
    RequestCancel,
)
from hodei_core.states import JobState, Reason
from hodei_core.testing.contracts.driver import HOST, StoreDriver
from hodei_core.testing.contracts.samples import WORKER, at, segment, submission, worker

# Nothing here depends on the event loop, and all of it takes long.
pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])

JOBS = 20_000
MANY = 5_000  # enough to show what is never cut off
LEAST = 300  # what compaction may leave behind, whatever the load


async def opened(keep: int = 10) -> tuple[MemoryStore, StoreDriver]:
    store = MemoryStore(keep=keep)
    await store.open(HOST)
    driver = StoreDriver(store)
    await driver.add_worker()
    return store, driver


def queue_of(store: MemoryStore) -> MemoryJobQueue:
    queue = store.queue
    assert isinstance(queue, MemoryJobQueue)
    return queue


def sizes(store: MemoryStore) -> dict[str, int]:
    """Return how much each inner structure holds."""
    queue = queue_of(store)
    fifos = [fifo for of in queue._classes.values() for fifo in of._levels.values()]
    return {
        "table": len(store._table),
        "final": len(store._final),
        "keys": len(store._keys),
        "cancels": len(store._cancels),
        "classes": len(queue._classes),
        "fresh": sum(len(fifo.fresh) for fifo in fifos),
        "late": sum(len(fifo.late) for fifo in fifos),
        "later": len(queue._later),
        "by due": len(queue._by_due),
        "logs": len(store._logs._logs),
        "open logs": len(store._logs._open),
        "final logs": len(store._logs._final),
        "workers": len(store._registry._workers),
        "held": sum(map(len, store._registry._held.values())),
        "idle": len(store._registry._idle_since),
    }


def assert_small(store: MemoryStore) -> None:
    large = {name: size for name, size in sizes(store).items() if size > LEAST}
    assert not large


def way(job: Job, number: int) -> Iterator[Job]:
    """Return the values of a job on one of several ways to its end."""
    if number % 5 == 0:
        yield job.finished(JobState.CANCELLED, Reason.CANCELLED, at=at(1))
        return
    assigned = job.assigned(WORKER, "provider", at(1))
    yield assigned
    if number % 5 == 1:
        back = assigned.returned("no room", at=at(0), due_at=at(0))
        yield back
        assigned = back.due().assigned(WORKER, "provider", at(1))
        yield assigned
    running = assigned.started(at(2))
    yield running
    if number % 5 == 2:
        back = running.to_retry(Reason.EXIT_CODE, at=at(3), due_at=at(0), exit_code=1)
        yield back
        running = back.due().assigned(WORKER, "provider", at(4)).started(at(4))
        yield back.due().assigned(WORKER, "provider", at(4))
        yield running
    yield running.finished(JobState.SUCCEEDED, None, at=at(5), exit_code=0)


async def test_many_jobs_leave_nothing_behind_them() -> None:
    store, _ = await opened()
    for number in range(JOBS):
        asked = submission(
            f"job-{number}",
            key=f"key-{number}",
            priority=number % 7,
            image=f"image-{number}",
            delay=1 if number % 3 == 0 else None,
        )
        (accepted,) = await store.apply([Accept((asked,))])
        job = accepted.jobs[0]
        await store.apply(
            [
                MarkDue(at(1)),
                RequestCancel((job.id,), CancelRequest(at=at(0))),
                AppendLogs(job.id, (segment(1, b"line\n"),)),
            ]
        )
        for new in way(job.due(), number):
            outcome, _ = await store.apply([Advance(new, new.version - 1), MarkDue(at(1))])
            assert outcome.applied
    assert_small(store)
    assert sizes(store)["table"] == 10
    assert dict(await store.jobs.counts())[JobState.PENDING] == 0


async def test_a_queue_that_is_never_empty_stays_small() -> None:
    store, driver = await opened()
    waiting = [await driver.add("first"), await driver.add("second")]
    for number in range(MANY):
        waiting.append(await driver.add(f"job-{number}"))
        await driver.cancel(waiting.pop(1))
    assert_small(store)
    assert await driver.waiting() == ["first", f"job-{MANY - 1}"]


async def test_a_queue_that_is_emptied_from_its_end_stays_small() -> None:
    store, driver = await opened()
    await driver.add("first")
    for number in range(MANY):
        await driver.cancel(await driver.add(f"job-{number}"))
    assert_small(store)


async def test_delayed_jobs_that_are_cancelled_leave_nothing_behind_them() -> None:
    store, driver = await opened()
    await driver.add("first", delay=1)
    for number in range(MANY):
        await driver.cancel(await driver.add(f"job-{number}", delay=1_000))
    assert_small(store)


async def test_a_job_that_comes_back_for_ever_leaves_nothing_behind_it() -> None:
    store, driver = await opened()
    job = await driver.add("a")
    await driver.add("b")
    for _ in range(3_000):
        job = (await driver.give_back(await driver.assign(job), due=0)).due()
        await driver.mark_due(0)
        job = job if len(job.returns) < 5 else await _without_returns(driver, job)
    assert_small(store)
    assert await driver.waiting() == ["a", "b"]


async def _without_returns(driver: StoreDriver, job: Job) -> Job:
    """Start the job once, which forgets its free returns."""
    running = await driver.start(job)
    ended = running.to_retry(Reason.EXIT_CODE, at=at(3), due_at=at(0), exit_code=1)
    await driver.move(running, ended)
    await driver.mark_due(0)
    return ended.due()


async def test_workers_that_come_and_go_leave_nothing_behind_them() -> None:
    store, _ = await opened()
    for number in range(MANY):
        worker_id = WorkerId(f"worker-{number}")
        await store.apply([PutWorker(worker(worker_id)), RemoveWorker(worker_id)])
    assert_small(store)


async def test_a_long_log_is_cut_off_in_the_store_too() -> None:
    store = MemoryStore(log_bytes=100_000)
    await store.open(HOST)
    driver = StoreDriver(store)
    await driver.add_worker()
    job = await driver.start(await driver.add("a"))
    for seq in range(1, 20_000):
        await driver.append(job, segment(seq, b"line\n"))
    log = store._logs._logs[job.id]
    assert len(log.segments) < 2_000
    assert store._logs._size <= 100_000


# What one step costs must not depend on how many wait: looked-at jobs are counted, not seconds.


class Looks:
    """Counts how often the queue asks whether a job is still alive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        alive = MemoryJobQueue._alive

        def counted(queue: MemoryJobQueue, job: Job) -> bool:
            self.count += 1
            return alive(queue, job)

        monkeypatch.setattr(MemoryJobQueue, "_alive", counted)


async def fill(store: MemoryStore, count: int) -> list[Job]:
    asked = tuple(submission(f"job-{number}", seconds=number) for number in range(count))
    (outcome,) = await store.apply([Accept(asked)])
    return list(outcome.jobs)


async def test_steps_cost_the_same_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    costs = []
    for size in (1_000, 30_000):
        store, driver = await opened(keep=100_000)
        jobs = await fill(store, size)
        looks.count = 0
        for job in jobs[:200]:
            await store.queue.peek(Needs(), 16)
            await driver.assign(job)
        for job in jobs[-200:]:
            await driver.cancel(job)
        await store.queue.overdue(at(size), (jobs[-300].due_at, jobs[-300].seq), 50)
        await store.queue.next_due()
        await driver.mark_due(size)
        costs.append(looks.count)
    assert costs[1] == costs[0]


async def test_the_position_of_the_last_yields_to_other_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, _ = await opened()
    jobs = await fill(store, 20_000)
    looks = Looks(monkeypatch)
    longest = 0

    async def turn(_: float) -> None:
        nonlocal longest
        longest = max(longest, looks.count)
        looks.count = 0

    monkeypatch.setattr("anyio.sleep", turn)
    assert await store.queue.position(jobs[-1].id) == len(jobs) - 1
    assert 0 < longest <= 2_000


async def test_a_search_through_all_jobs_yields_to_other_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, _ = await opened()
    await fill(store, 20_000)
    checkpoints = 0

    async def turn(_: float) -> None:
        nonlocal checkpoints
        checkpoints += 1

    monkeypatch.setattr("anyio.sleep", turn)
    assert await store.jobs.select(JobFilter(name="nobody"), limit=None) == []
    assert checkpoints >= 9


async def test_a_page_deep_in_the_table_looks_at_that_page_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, _ = await opened()
    jobs = await fill(store, 20_000)
    looked = 0
    matches = JobFilter.matches

    def counted(self: JobFilter, job: Job) -> bool:
        nonlocal looked
        looked += 1
        return matches(self, job)

    monkeypatch.setattr(JobFilter, "matches", counted)
    page = await store.jobs.select(JobFilter(), limit=10, after=JobId(jobs[15_000].id))
    assert [job.seq for job in page] == [job.seq for job in jobs[14_999:14_989:-1]]
    assert looked == 10


async def test_a_wall_clock_that_went_back_makes_no_step_dearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(monkeypatch)
    store, driver = await opened()
    await fill(store, 20_000)
    looks.count = 0
    for number in range(100):
        await driver.add(f"after-{number}", seconds=-3_600 + number)
    assert looks.count == 0
    overdue = await store.queue.overdue(at(-3_600), None, 5)
    assert [job.id for job in overdue] == ["after-0"]
