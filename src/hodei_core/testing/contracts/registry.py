"""The suite of `WorkerRegistry`, `PutWorker` and `RemoveWorker`."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

from hodei_core.ids import JobId
from hodei_core.ports import PutWorker, RemoveWorker
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite
from hodei_core.testing.contracts.repository import assert_frozen
from hodei_core.testing.contracts.samples import WORKER, at, worker
from hodei_core.workers import Worker, WorkerState


async def only_worker(driver: StoreDriver) -> Worker:
    """Return the one worker there is."""
    (shown,) = await driver.store.workers.select()
    return shown


class RegistryContract(StoreSuite):
    """Workers are shown with what their jobs hold of them."""

    async def test_workers_are_shown_oldest_first(self) -> None:
        async with self.opened() as driver:
            for name in "cab":
                await driver.add_worker(name)
            await driver.apply(PutWorker(worker("c", slots=7)))
            assert [w.id for w in await driver.store.workers.select()] == ["c", "a", "b"]

    async def test_all_fields_of_a_worker_are_kept(self) -> None:
        async with self.opened() as driver:
            given = worker(slots=3, labels={"gpu": "yes"}, image="debian", ready=5)
            await driver.apply(PutWorker(given))
            shown = await only_worker(driver)
            assert shown.offer == given.offer
            assert (shown.id, shown.ready_at) == (WORKER, at(5))
            assert_frozen(shown)

    async def test_what_is_known_of_a_worker_is_replaced(self) -> None:
        async with self.opened() as driver:
            await driver.apply(PutWorker(worker(slots=1)))
            await driver.apply(PutWorker(worker(slots=4, state=WorkerState.DRAINING)))
            shown = await only_worker(driver)
            assert (shown.slots, shown.state) == (4, WorkerState.DRAINING)

    async def test_slots_follow_the_assignments(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker(slots=3)
            one = await driver.assign(await driver.add("a"))
            two = await driver.start(await driver.add("b"))
            three = await driver.start(await driver.add("c"))
            assert await slots(driver) == {"a", "b", "c"}
            await driver.finish(three)
            await driver.give_back(one, due=9)
            assert await slots(driver) == {"b"}
            await driver.retry(two, due=9)
            assert await slots(driver) == set()

    async def test_what_a_put_says_of_slots_does_not_count(self) -> None:
        async with self.opened() as driver:
            lies = worker(slots=3, slots_used=2, jobs=(JobId("x"),), idle_since=at(99))
            await driver.apply(PutWorker(lies))
            assert await slots(driver) == set()
            assert (await only_worker(driver)).idle_since == at(0)
            await driver.assign(await driver.add("a"))
            await driver.apply(PutWorker(worker(slots=3)))
            assert await slots(driver) == {"a"}

    async def test_a_worker_is_idle_since_it_was_ready(self) -> None:
        async with self.opened() as driver:
            await driver.apply(PutWorker(worker(ready=5)))
            assert (await only_worker(driver)).idle_since == at(5)

    async def test_a_worker_that_was_announced_is_idle_since_it_was_ready(self) -> None:
        async with self.opened() as driver:
            await driver.apply(PutWorker(worker(state=WorkerState.PROVISIONING, ready=None)))
            assert (await only_worker(driver)).idle_since is None
            await driver.apply(PutWorker(worker(ready=5)))
            assert (await only_worker(driver)).idle_since == at(5)

    async def test_a_worker_is_not_idle_while_a_slot_is_in_use(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker(slots=2)
            one = await driver.start(await driver.add("a"))
            two = await driver.start(await driver.add("b"))
            await driver.finish(one, seconds=10)
            assert (await only_worker(driver)).idle_since is None
            await driver.finish(two, seconds=20)
            assert (await only_worker(driver)).idle_since == at(20)

    async def test_a_worker_is_idle_since_an_attempt_that_is_retried_ended(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            await driver.retry(await driver.start(await driver.add("a")), seconds=8, due=50)
            assert (await only_worker(driver)).idle_since == at(8)

    async def test_a_worker_whose_job_never_started_is_idle_again(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            assigned = await driver.assign(await driver.add("a"), seconds=7)
            await driver.give_back(assigned, due=50)
            idle_since = (await only_worker(driver)).idle_since
            assert idle_since is not None
            assert at(0) <= idle_since <= at(50)

    async def test_a_job_that_comes_back_again_does_not_make_its_worker_idle_for_longer(
        self,
    ) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            job = await driver.retry(await driver.start(await driver.add("a")), seconds=8, due=9)
            await driver.mark_due(9)
            assigned = await driver.assign(job.due(), seconds=40)
            await driver.give_back(assigned, due=50)
            idle_since = (await only_worker(driver)).idle_since
            assert idle_since is not None
            assert idle_since >= at(40)

    async def test_a_removed_worker_is_forgotten(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker("one")
            await driver.add_worker("two")
            await driver.apply(RemoveWorker(worker("one").id))
            assert [w.id for w in await driver.store.workers.select()] == ["two"]

    async def test_a_job_ends_though_its_worker_was_removed(self) -> None:
        async with self.opened() as driver:
            await driver.add_worker()
            running = await driver.start(await driver.add("a"))
            await driver.apply(RemoveWorker(WORKER))
            final = await driver.finish(running)
            assert await driver.get("a") == final
            assert await driver.store.workers.select() == []


async def slots(driver: StoreDriver) -> set[str]:
    """Return the jobs that hold slots of the one worker; their number must be the count."""
    shown = await only_worker(driver)
    assert shown.slots_used == len(shown.jobs)
    return {str(job_id) for job_id in shown.jobs}
