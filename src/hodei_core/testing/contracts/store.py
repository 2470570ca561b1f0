"""The suite of a store as a whole: opening, closing, and that a change is all or nothing."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

import anyio

from hodei_core.ids import HostId
from hodei_core.ports import (
    Accept,
    Advance,
    AppendLogs,
    Change,
    JobFilter,
    PutWorker,
    Store,
)
from hodei_core.testing.checkpoints import count_checkpoints, run_cancelled_at
from hodei_core.testing.contracts.driver import HOST, StoreDriver, StoreSuite, ids
from hodei_core.testing.contracts.samples import WORKER, at, segment, submission, worker


class StoreContract(StoreSuite):
    """A store belongs to one host at a time, and commits a call of `apply` whole."""

    async def test_a_second_host_is_refused(self) -> None:
        async with self.opened() as driver:
            await assert_refused(driver.store)
            await driver.add("a")

    async def test_closing_is_idempotent(self) -> None:
        async with self.opened() as driver:
            await driver.store.close()
            await driver.store.close()

    async def test_a_closed_store_may_be_opened_by_another_host(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.start(await driver.add("a", key="k"))
            await driver.append(job, segment(1, b"line\n"))
            await driver.finish(job)
            await driver.store.close()
            again = StoreDriver(await self.make_again(driver.store))
            await again.store.open(HostId("another"))
            try:
                await assert_refused(again.store)
                assert ids((await again.accept(submission("b", key="k"))).jobs) == ["a"]
                assert (await again.store.logs.bounds(job.id)).last == 1
                assert (await again.add("c")).seq > job.seq
            finally:
                with anyio.CancelScope(shield=True):
                    await again.store.close()

    async def test_a_store_that_is_not_durable_is_read_after_its_close(self) -> None:
        async with self.opened() as driver:
            store = driver.store
            if store.durable:
                return
            job = await driver.add("a")
            await store.close()
            assert await driver.get("a") == job
            assert ids(await store.jobs.select(JobFilter(), limit=None)) == ["a"]

    async def test_no_changes_have_no_outcomes(self) -> None:
        async with self.opened() as driver:
            assert await driver.store.apply([]) == []

    async def test_there_is_an_outcome_for_each_change_in_order(self) -> None:
        async with self.opened() as driver:
            changes = [Accept((submission(name),)) for name in "abc"]
            outcomes = await driver.store.apply(changes)
            assert [ids(outcome.jobs) for outcome in outcomes] == [["a"], ["b"], ["c"]]

    async def test_calls_from_many_tasks_do_not_disturb_one_another(self) -> None:
        async with self.opened() as driver:
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(driver.accept, submission(f"job-{number}", key=f"k{number}"))
            jobs = await driver.store.jobs.select(JobFilter(), limit=None)
            assert len({job.seq for job in jobs}) == 50
            assert await driver.waiting() == ids(jobs[::-1])

    async def test_a_cancelled_call_has_made_all_of_its_changes_or_none(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            steps = await count_checkpoints(driver.store.apply(_bundle("counted")))
            for step in range(steps + 1):
                await _cancel_at(driver, step)

    async def test_a_cancelled_call_leaves_the_store_usable_by_others_at_once(self) -> None:
        async with self.opened() as driver:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    for number in range(10):
                        tasks.start_soon(driver.accept, submission(f"job-{number}"))
                    scope.cancel()
            await driver.add("after")
            waiting = await driver.waiting()
            assert waiting[-1] == "after"
            assert len(waiting) == await driver.total()


def _bundle(name: str) -> list[Change]:
    """Return changes that belong together: three jobs and a worker."""
    return [
        Accept((submission(f"{name}-1"), submission(f"{name}-2"))),
        PutWorker(worker(f"{name}-worker")),
        Accept((submission(f"{name}-3", key=name),)),
    ]


async def _cancel_at(driver: StoreDriver, step: int) -> None:
    """Cancel a call at one of its checkpoints; check that it is whole, and what comes next."""
    job = await driver.add(f"job-{step}")
    assigned = job.assigned(WORKER, "provider", at(1))
    changes = [
        *_bundle(f"bundle-{step}"),
        Advance(assigned, job.version),
        AppendLogs(job.id, (segment(1, b"one\n"),)),
    ]
    before = await driver.total()
    await run_cancelled_at(driver.store.apply(changes), step)
    store = driver.store
    workers = [w.id for w in await store.workers.select()]
    facts = {
        "jobs": await driver.total() == before + 3,
        "worker": f"bundle-{step}-worker" in workers,
        "move": await driver.get(job) == assigned,
        "log": (await store.logs.bounds(job.id)).last == 1,
    }
    assert len(set(facts.values())) == 1, f"cancelled at checkpoint {step}: {facts}"
    if not facts["move"]:
        await driver.assign(job)
    final = await driver.finish(assigned)
    assert await driver.get(job) == final
    await driver.add(f"after-{step}", key=f"after-{step}")


async def assert_refused(store: Store) -> None:
    """Check that nobody else can open a store."""
    try:
        await store.open(HOST)
    except RuntimeError:
        return
    msg = "a store that is open was opened"
    raise AssertionError(msg)
