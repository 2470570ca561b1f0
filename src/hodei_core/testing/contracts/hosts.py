"""The suite of `HostRegistry` and of what hosts that share a store owe to one another."""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import attrs

from hodei_core import job_events
from hodei_core.hosts import HostRecord
from hodei_core.ids import HostId
from hodei_core.jobs import Attempt, Job
from hodei_core.ports import (
    Cover,
    HostRegistry,
    JoinHost,
    Needs,
    News,
    Prune,
    PutWorker,
    RemoveHost,
    RenewHost,
    Store,
    Submission,
)
from hodei_core.resources import Resources
from hodei_core.states import JobState, Reason
from hodei_core.testing.contracts.driver import StoreDriver, StoreSuite
from hodei_core.testing.contracts.samples import WORKER, at, segment, submission, worker
from hodei_core.workers import Offer

A, B = HostId("a"), HostId("b")


class HostContract(StoreSuite):
    """Two hosts on one store: `make_second` opens the content of a store once more."""

    async def make_second(self, store: Store) -> Store:
        """Return another store on the same content, not open. Override this."""
        raise NotImplementedError

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[tuple[StoreDriver, StoreDriver]]:
        """Open a store as host A and once more as host B; both are registered."""
        async with self.opened() as first:
            second = StoreDriver(await self.make_second(first.store))
            await second.store.open(B)
            try:
                await first.apply(JoinHost(HostRecord(id=A)))
                await second.apply(JoinHost(HostRecord(id=B)))
                yield first, second
            finally:
                with anyio.CancelScope(shield=True):
                    await second.store.close()

    async def test_hosts_are_shown_in_the_order_in_which_they_joined(self) -> None:
        async with self.shared() as (a, b):
            offers = (Offer(provider="p", slots=3),)
            record = HostRecord(id=A, beat=1, offers=offers)
            assert (await a.apply(RenewHost(record))).applied
            shown = await hosts(b).select()
            assert shown == [record, HostRecord(id=B)]

    async def test_a_host_that_was_given_up_cannot_renew_its_lease(self) -> None:
        async with self.shared() as (a, b):
            assert (await b.apply(RemoveHost(A, 0))).applied
            assert not (await a.apply(RenewHost(HostRecord(id=A, beat=1)))).applied
            assert [record.id for record in await hosts(a).select()] == [B]

    async def test_a_host_whose_beat_went_on_is_not_removed(self) -> None:
        async with self.shared() as (a, b):
            await a.apply(RenewHost(HostRecord(id=A, beat=1)))
            assert not (await b.apply(RemoveHost(A, 0))).applied
            assert (await b.apply(RemoveHost(A, 1))).applied
            assert not (await b.apply(RemoveHost(A))).applied

    async def test_a_host_that_was_given_up_assigns_nothing(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            job = await a.add("one")
            await b.apply(RemoveHost(A))
            outcome = await a.try_move(job, assigned(job, A))
            assert not outcome.applied
            assert outcome.jobs == (job,)
            assert (await b.try_move(job, assigned(job, B))).applied

    async def test_a_job_that_such_a_host_would_begin_waits(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            asked = [submission("one"), submission("two")]
            first, second = (attrs.evolve(each, attempt=attempt_of(each, A)) for each in asked)
            before = (await a.accept(first)).jobs[0]
            assert before.state is JobState.ASSIGNED
            await b.apply(RemoveHost(A))
            (late,) = (await a.accept(second)).jobs
            assert late == second.job(late.seq)
            assert await hosts(b).abandoned_jobs() == [before]
            events = (await hosts(b).news(everything=True)).events
            assert events == (
                job_events.submitted(before),
                job_events.assigned(before),
                job_events.submitted(late),
            )
            assert [event.version for event in events] == [1, 2, 1]

    async def test_what_a_host_left_that_was_given_up_is_abandoned(self) -> None:
        async with self.shared() as (a, b):
            for host in (A, B):
                await a.apply(PutWorker(attrs.evolve(worker(f"of-{host}"), host_id=host)))
            await a.add_worker()
            mine, other = await a.add("one"), await a.add("two")
            mine = await a.move(mine, assigned(mine, A))
            await b.move(other, assigned(other, B))
            assert await hosts(b).abandoned_jobs() == []
            await b.apply(RemoveHost(A))
            assert await hosts(b).abandoned_jobs() == [mine]
            ids = [row.id for row in await hosts(b).abandoned_workers()]
            assert "of-a" in ids
            assert "of-b" not in ids

    async def test_a_covered_job_is_shown_to_the_host_that_covers_it(self) -> None:
        async with self.shared() as (a, b):
            jobs = [await a.add("one"), await a.add("two")]
            needs = Needs.of(jobs[0].spec)
            await a.apply(Cover((jobs[0].id,), A, at(10**9)))
            assert await a.store.queue.peek(needs, 9) == jobs
            assert await b.store.queue.peek(needs, 9) == jobs[1:]
            await b.apply(RemoveHost(A))
            assert await b.store.queue.peek(needs, 9) == jobs

    async def test_a_cover_ends(self) -> None:
        async with self.shared() as (a, b):
            job = await a.add("one")
            await a.apply(Cover((job.id,), A, at(-(10**9))))
            assert await b.store.queue.peek(Needs.of(job.spec), 9) == [job]

    async def test_a_job_that_comes_back_is_covered_no_more(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            job = await a.add("one")
            await a.apply(Cover((job.id,), A, at(10**9)))
            await a.give_back(await a.move(job, assigned(job, A)), due=2)
            assert await b.mark_due(3) == [job.id]
            shown = await b.store.queue.peek(Needs.of(job.spec), 9)
            assert [one.id for one in shown] == [job.id]

    async def test_a_write_of_another_host_is_noticed_and_ones_own_is_not(self) -> None:
        async with self.shared() as (a, b):
            with anyio.fail_after(10):
                await hosts(b).others_wrote()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(hosts(b).others_wrote)
                    await a.add("one")
            await b.add("two")
            with anyio.move_on_after(0.5) as scope:
                await hosts(b).others_wrote()
            assert scope.cancelled_caught

    async def test_what_was_done_to_jobs_is_told_once_and_in_order(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            before = await a.add("before")
            await hosts(b).news(everything=True)
            job = await b.add("mine")
            running = await a.start(await a.move(before, assigned(before, A)))
            final = await a.finish(running)
            told = await hosts(b).news(everything=True)
            assert told == News(
                events=(
                    job_events.submitted(job),
                    job_events.assigned(before.assigned(WORKER, "p", at(1), host_id=A)),
                    job_events.started(running),
                    *job_events.ended(JobState.RUNNING, 1, final),
                ),
                needs=(Needs.of(before.spec),),
            )
            assert await hosts(b).news(everything=True) == News()
            assert (await hosts(a).news(everything=True)).events[1:] == told.events

    async def test_a_start_that_was_never_written_is_told_with_the_end(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            job = await a.add("one")
            job = await a.move(job, assigned(job, A))
            await hosts(b).news(everything=True)
            ended = job.started(at(2)).finished(JobState.SUCCEEDED, None, at=at(3), exit_code=0)
            await a.move(job, ended)
            events = (await hosts(b).news(everything=True)).events
            assert events == job_events.ended(JobState.ASSIGNED, 1, ended)
            assert [event.version for event in events] == [3, 4]

    async def test_a_job_that_comes_back_is_told_of(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            job = await a.add("one")
            back = await a.give_back(await a.move(job, assigned(job, A)), due=9)
            events = (await hosts(b).news(everything=True)).events
            assert events[-1] == job_events.ended(JobState.ASSIGNED, 1, back)[0]

    async def test_only_what_others_ended_is_told_when_nobody_wants_more(self) -> None:
        async with self.shared() as (a, b):
            job = await a.add("one")
            final = job.finished(JobState.CANCELLED, Reason.CANCELLED, at=at(4))
            await a.move(job, final)
            cancelled = await b.add("two")
            await b.cancel(cancelled)
            news = await hosts(b).news(everything=False)
            assert news.events == job_events.ended(JobState.PENDING, 0, final)
            assert await hosts(b).news(everything=True) == News()

    async def test_the_events_of_jobs_that_were_pruned_are_counted(self) -> None:
        async with self.shared() as (a, b):
            await hosts(b).news(everything=True)
            await a.cancel(await a.add("gone"))
            kept = await a.add("kept")
            await a.apply(Prune(at(100)))
            news = await hosts(b).news(everything=True)
            assert (news.events, news.missed) == ((job_events.submitted(kept),), 2)

    async def test_the_classes_are_told_whose_queue_others_changed(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            plain, large = await a.add("plain"), await a.add("large", resources=Resources(4))
            delayed = await a.add("delayed", resources=Resources(2), delay=5)
            of = {job.id: Needs.of(job.spec) for job in (plain, large, delayed)}

            async def touched() -> set[Needs]:
                return set((await hosts(b).news(everything=False)).needs)

            assert await touched() == {of[plain.id], of[large.id]}
            await b.add("mine", resources=Resources(3))
            assert await touched() == set()
            await a.mark_due(6)
            assert await touched() == {of[delayed.id]}
            job = await a.move(plain, assigned(plain, A))
            await a.cancel(large)
            assert await touched() == {of[plain.id], of[large.id]}
            await a.finish(await a.start(job))
            assert await touched() == set()
            begun = submission("begun")
            await a.accept(attrs.evolve(begun, attempt=attempt_of(begun, A)))
            assert await touched() == set()

    async def test_jobs_that_expire_are_shown_the_soonest_first(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            late = await a.add("late", pending_timeout=30)
            soon = await a.add("soon", pending_timeout=10)
            delayed = await a.add("delayed", delay=15, pending_timeout=5)
            await a.add("never")
            queue = b.store.queue
            assert await queue.expiring(None, 9) == [soon, delayed, late]
            assert await queue.expiring(None, 1) == [soon]
            assert soon.expires_at is not None
            assert await queue.expiring((soon.expires_at, soon.seq), 9) == [delayed, late]
            given = await a.move(late, assigned(late, A))
            assert late not in await queue.expiring(None, 9)
            given = await a.give_back(given, due=2)
            assert given in await queue.expiring(None, 9)
            await a.mark_due(2)
            (shown,) = await queue.peek(Needs.of(given.spec), 1)
            started = await a.start(await a.move(shown, assigned(shown, A)))
            back = await a.retry(started, due=3)
            assert back not in await queue.expiring(None, 9)

    async def test_requests_are_told_to_whom_they_concern(self) -> None:
        async with self.shared() as (a, b):
            await a.add_worker()
            waiting, mine = await a.add("waiting"), await a.add("mine")
            await a.move(mine, assigned(mine, A))
            await b.request_cancel(waiting, mine)
            assert [job_id for job_id, _ in await hosts(a).cancel_requests(A)] == [
                waiting.id,
                mine.id,
            ]
            assert [job_id for job_id, _ in await hosts(b).cancel_requests(B)] == [waiting.id]

    async def test_the_log_of_an_attempt_that_was_given_up_is_refused(self) -> None:
        async with self.shared() as (a, _):
            await a.add_worker()
            job = await a.add("one")
            await a.start(await a.move(job, assigned(job, A)))
            assert (await a.append(job, segment(1, b"one\n"))).applied
            assert not (await a.append(job, segment(2, b"two\n", attempt=7))).applied
            assert (await a.store.logs.bounds(job.id)).last == 1


def hosts(driver: StoreDriver) -> HostRegistry:
    """Return the register of a shared store."""
    registry = driver.store.hosts
    assert registry is not None
    return registry


def assigned(job: Job, host_id: HostId) -> Job:
    """Return a job as a host assigns it."""
    assert job.state is JobState.PENDING
    return job.assigned(WORKER, "p", at(1), host_id=host_id)


def attempt_of(asked: Submission, host_id: HostId) -> Attempt:
    """Return the attempt as which a host begins a job at once."""
    return assigned(asked.job(0), host_id).attempt
