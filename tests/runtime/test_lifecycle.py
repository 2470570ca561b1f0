from __future__ import annotations

import anyio
import pytest

from hodei_core import (
    Backoff,
    Execution,
    Hodei,
    HodeiBrokenError,
    HodeiClosedError,
    JobHandle,
    JobNotFoundError,
    JobResult,
    JobState,
    Output,
    ProvisionError,
    Reason,
    RetryPolicy,
    Worker,
    WorkerId,
)
from hodei_core.backends.memory import MemoryProvider, MemoryStore
from hodei_core.ports import ProviderHost, WorkerSession
from hodei_core.runtime.dispatcher import Dispatcher
from hodei_core.runtime.fleet import Fleet
from tests.runtime.scripted import ScriptedProvider
from tests.runtime.workshop import LIMIT, Workshop, until


async def test_a_job_runs_and_its_result_says_how(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        result = await hodei.run("print hello", name="first")
    assert result.ok
    assert result.state is JobState.SUCCEEDED
    assert result.reason is None
    assert result.exit_code == 0
    assert result.stdout == "hello\n"
    assert result.name == "first"
    assert [attempt.number for attempt in result.attempts] == [1]


async def test_calls_before_the_opening_say_so(workshop: Workshop) -> None:
    hodei = Hodei(providers=[workshop.provider()])
    with pytest.raises(HodeiClosedError, match="not open"):
        await hodei.submit("exit 0")
    with pytest.raises(HodeiClosedError, match="not open"):
        await hodei.stats()
    with pytest.raises(HodeiClosedError, match="not open"):
        await hodei.handle("x").wait()


async def test_it_opens_once(workshop: Workshop) -> None:
    hodei = Hodei(providers=[workshop.provider()])
    async with hodei:
        pass
    with pytest.raises(RuntimeError, match="opened once"):
        await hodei.__aenter__()


async def test_submitting_is_refused_once_the_block_is_left(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        job = await hodei.submit("exit 0")
    for call in (hodei.submit("exit 0"), hodei.run("exit 0"), job.retry()):
        with pytest.raises(HodeiClosedError, match="closing or closed"):
            await call
    with pytest.raises(HodeiClosedError):
        await hodei.submit_many(["exit 0"])


async def test_a_handler_cannot_submit_once_the_block_is_left() -> None:
    caught: list[HodeiClosedError] = []
    closing = anyio.Event()

    async def handler(_execution: Execution, _output: Output) -> None:
        await closing.wait()
        try:
            await hodei.submit("late")
        except HodeiClosedError as error:
            caught.append(error)

    hodei = Hodei(providers=[MemoryProvider(handler)])

    async def let_go() -> None:
        await until(lambda: "closing" in repr(hodei))
        closing.set()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks, hodei:
            await hodei.submit("early")
            tasks.start_soon(let_go)
    assert len(caught) == 1


async def test_a_closed_memory_store_still_answers_what_only_reads(workshop: Workshop) -> None:
    async with Hodei(providers=[workshop.provider()]) as hodei:
        job = await hodei.submit("print hello")
    assert (await job.wait()).stdout == "hello\n"
    assert [entry.text async for entry in job.logs()] == ["hello"]
    assert await job.output() == b"hello\n"
    assert (await job.snapshot()).state is JobState.SUCCEEDED
    assert (await hodei.stats()).jobs[JobState.SUCCEEDED] == 1
    assert [found.id for found in await hodei.list_jobs()] == [job.id]
    assert "SUCCEEDED" in str(await job.explain())
    with pytest.raises(JobNotFoundError, match="nobody"):
        await hodei.handle("nobody").wait()


async def test_an_exception_of_the_body_leaves_as_it_was_raised(workshop: Workshop) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with Hodei(providers=[workshop.provider()]) as hodei:
            await hodei.run("exit 0")
            raise error
    assert caught.value is error


async def test_an_exception_of_the_body_ends_what_runs(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(KeyError):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("hang")
            await workshop.has_started("hang")
            raise KeyError
    result = await job.wait()
    assert (result.state, result.reason) == (JobState.FAILED, Reason.INTERRUPTED)
    assert workshop.ended == ["hang"]


async def test_a_cancellation_of_the_body_ends_what_runs_and_goes_on(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        with anyio.CancelScope() as scope:
            async with Hodei(providers=[workshop.provider()]) as hodei:
                job = await hodei.submit("hang")
                waits = await hodei.submit("exit 0")
                await workshop.has_started("hang")
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert (await job.wait()).reason is Reason.INTERRUPTED
        result = await waits.wait()
    assert (result.state, result.reason) == (JobState.CANCELLED, Reason.INTERRUPTED)
    assert workshop.live == 0


async def test_a_cancellation_while_it_waits_at_the_end_ends_what_runs(
    workshop: Workshop,
) -> None:
    hodei = Hodei(providers=[workshop.provider()])
    scope = anyio.CancelScope()

    async def cancel() -> None:
        await until(lambda: "closing" in repr(hodei))
        scope.cancel()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            with scope:
                async with hodei:
                    job = await hodei.submit("hang")
                    await workshop.has_started("hang")
                    tasks.start_soon(cancel)
    assert scope.cancelled_caught
    assert (await job.wait()).reason is Reason.INTERRUPTED


async def test_shutdown_timeout_bounds_how_long_a_normal_end_waits(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()], shutdown_timeout=0) as hodei:
            job = await hodei.submit("hang")
            await workshop.has_started("hang")
    assert (await job.wait()).reason is Reason.INTERRUPTED


async def test_a_normal_end_waits_for_what_runs_and_what_waits(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            jobs = await hodei.submit_many(["exit 0"] * 5)
            jobs.append(await hodei.submit("exit 0", delay=0.05))
            backing_off = RetryPolicy(max_attempts=3, backoff=Backoff(first=0.02))
            jobs.append(await hodei.submit("fail 2", retry=backing_off))
    assert [(await job.wait()).state for job in jobs] == [JobState.SUCCEEDED] * 7


async def test_a_drained_host_ends_with_what_waits_cancelled_and_says_how_many(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            await hodei.drain()
            jobs = await hodei.submit_many(["exit 0"] * 3)
    for job in jobs:
        result = await job.wait()
        assert (result.state, result.reason) == (JobState.CANCELLED, Reason.INTERRUPTED)
    assert "3 pending jobs were cancelled" in caplog.text
    assert workshop.started == []


async def test_waiters_are_told_when_pending_jobs_end_with_their_store(
    workshop: Workshop,
) -> None:
    results: list[JobResult] = []
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            async with Hodei(providers=[workshop.provider()]) as hodei:
                await hodei.drain()
                job = await hodei.submit("exit 0")

                async def wait() -> None:
                    results.append(await job.wait())

                tasks.start_soon(wait)
    assert [result.reason for result in results] == [Reason.INTERRUPTED]


async def test_a_provider_that_cannot_open_is_told_by_its_own_error() -> None:
    class Unable(MemoryProvider):
        async def open(self, host: ProviderHost) -> None:
            msg = "no such technology here"
            raise ProvisionError(msg, permanent=True)

    with anyio.fail_after(LIMIT), pytest.raises(ProvisionError, match="no such technology"):
        async with Hodei(providers=[Unable(_succeed)]):
            raise AssertionError
    assert await _nothing_lives()


async def test_a_loop_that_fails_breaks_it_loudly(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = ZeroDivisionError("a bug of ours")
    broken: list[HodeiBrokenError] = []

    async def failing(_self: Dispatcher) -> None:
        raise bug

    with anyio.fail_after(LIMIT), pytest.raises(ZeroDivisionError) as caught:
        async with anyio.create_task_group() as tasks:
            try:
                async with Hodei(providers=[workshop.provider()]) as hodei:
                    job = await hodei.submit("hang")
                    await workshop.has_started("hang")
                    waiting = anyio.Event()

                    async def wait() -> None:
                        waiting.set()
                        with pytest.raises(HodeiBrokenError) as raised:
                            await job.wait()
                        broken.append(raised.value)

                    tasks.start_soon(wait)
                    await waiting.wait()
                    monkeypatch.setattr(Dispatcher, "_step", failing)
                    hodei._host.dispatcher.wake()
                    await anyio.sleep_forever()
            except ZeroDivisionError as error:
                outer = error
        raise outer
    assert caught.value is bug
    assert [error.__cause__ for error in broken] == [bug]
    with pytest.raises(HodeiBrokenError):
        await hodei.submit("exit 0")
    with pytest.raises(HodeiBrokenError):
        await job.wait()
    assert workshop.live == 0


@pytest.mark.parametrize("cause", [ZeroDivisionError("a bug of ours"), SystemExit(3)], ids=repr)
async def test_what_breaks_it_is_raised_though_the_body_has_tasks_that_fail_of_it(
    workshop: Workshop, cause: BaseException
) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(type(cause)) as caught:
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("hang")
            await workshop.has_started("hang")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(job.wait)
                tasks.start_soon(anyio.sleep_forever)
                await anyio.wait_all_tasks_blocked()
                host = hodei._host
                (host.fail if isinstance(cause, Exception) else host.escape)(cause)
    assert caught.value is cause
    assert workshop.live == 0


async def test_an_exception_of_the_body_is_not_hidden_by_a_failure(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(KeyError, match="of the user"):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            hodei._host.fail(ZeroDivisionError("a bug of ours"))
            raise KeyError("of the user")


async def test_a_worker_that_cannot_be_written_down_breaks_it_and_keeps_nobody(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = ValueError("a bug of a store")

    async def keep_row(_self: Fleet, _worker: Worker) -> None:
        raise bug

    monkeypatch.setattr(Fleet, "keep_row", keep_row)
    provider = workshop.provider(min_workers=0)
    with anyio.fail_after(LIMIT), pytest.raises(ValueError, match="a bug of a store") as caught:
        async with Hodei(providers=[provider]) as hodei:
            await hodei.run("exit 0")
    assert caught.value is bug


async def test_keyboard_interrupt_in_the_body_ends_what_runs(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT), pytest.raises(KeyboardInterrupt):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("hang")
            await workshop.has_started("hang")
            raise KeyboardInterrupt
    assert (await job.wait()).reason is Reason.INTERRUPTED


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestOpenAndAclose:
    async def test_it_works_outside_a_block(self, workshop: Workshop) -> None:
        hodei = await Hodei(providers=[workshop.provider()]).open()
        assert (await hodei.run("print hello")).stdout == "hello\n"
        await hodei.aclose()
        await hodei.aclose()
        with pytest.raises(HodeiClosedError):
            await hodei.submit("exit 0")

    async def test_it_may_be_closed_from_another_task(self, workshop: Workshop) -> None:
        hodei = await Hodei(providers=[workshop.provider()]).open()
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hodei.aclose)
                tasks.start_soon(hodei.aclose)

    async def test_closing_what_was_never_opened_is_nothing(self, workshop: Workshop) -> None:
        await Hodei(providers=[workshop.provider()]).aclose()

    async def test_a_broken_one_raises_its_cause_when_closed(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def failing(_self: Dispatcher) -> None:
            msg = "a bug of ours"
            raise ZeroDivisionError(msg)

        hodei = await Hodei(providers=[workshop.provider()]).open()
        await hodei.submit("hang")
        await workshop.has_started("hang")
        monkeypatch.setattr(Dispatcher, "_step", failing)
        hodei._host.dispatcher.wake()
        with anyio.fail_after(LIMIT):
            with pytest.raises(HodeiBrokenError):
                await hodei.join()
            with pytest.raises(ZeroDivisionError):
                await hodei.aclose()

    async def test_an_opening_that_fails_raises(self) -> None:
        class Unable(MemoryProvider):
            async def open(self, host: ProviderHost) -> None:
                msg = "no"
                raise ProvisionError(msg)

        with pytest.raises(ProvisionError):
            await Hodei(providers=[Unable(_succeed)]).open()

    async def test_one_that_could_not_be_opened_can_be_closed(self) -> None:
        provider = StuckProvider(at="open", how=ProvisionError("no"))
        hodei = Hodei(providers=[provider])
        with pytest.raises(ProvisionError):
            await hodei.open()
        await hodei.aclose()

    @pytest.mark.parametrize("at", ["open", "provision"])
    async def test_closing_it_ends_its_opening(self, at: str) -> None:
        provider = StuckProvider(at=at)
        hodei = Hodei(providers=[provider])

        async def close() -> None:
            await provider.stuck.wait()
            await hodei.aclose()

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                with pytest.raises(HodeiClosedError, match="while it opened"):
                    await hodei.open()
            assert provider.told == provider.told_at_last
            assert await _nothing_lives()


@pytest.mark.parametrize("at", ["open", "provision"])
async def test_an_opening_can_be_cancelled(at: str) -> None:
    provider = StuckProvider(at=at)
    store = MemoryStore()
    with anyio.fail_after(LIMIT):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    await provider.stuck.wait()
                    scope.cancel()

                tasks.start_soon(cancel)
                async with Hodei(store, providers=[provider]):
                    raise AssertionError
        assert scope.cancelled_caught
        assert provider.told == provider.told_at_last
        async with Hodei(store, providers=[Workshop().provider()]) as hodei:
            assert (await hodei.run("exit 0")).ok


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_open_names_what_to_use_under_trio(workshop: Workshop) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Hodei(providers=[workshop.provider()]).open()


async def test_aclose_within_the_block_closes_it(workshop: Workshop) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            job = await hodei.submit("exit 0")
            await hodei.aclose()
            assert (await job.wait()).ok
            with pytest.raises(HodeiClosedError):
                await hodei.submit("exit 0")


async def test_new_jobs_are_refused_from_the_moment_it_is_told_to_close(
    workshop: Workshop,
) -> None:
    refused = False
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hodei.aclose)
                while not hodei._host._stopping.is_set():
                    await anyio.lowlevel.checkpoint()
                try:
                    await hodei.submit("exit 0")
                except HodeiClosedError:
                    refused = True
            assert refused


async def test_several_live_side_by_side() -> None:
    with anyio.fail_after(LIMIT):
        shops = [Workshop() for _ in range(3)]
        async with (
            Hodei(providers=[shops[0].provider()]) as one,
            Hodei(providers=[shops[1].provider()]) as two,
            Hodei(providers=[shops[2].provider()]) as three,
        ):
            for hodei in (one, two, three):
                assert (await hodei.run("print x")).ok
    assert [shop.started for shop in shops] == [["print x"]] * 3


async def test_a_memory_store_goes_on_with_the_next_hodei(workshop: Workshop) -> None:
    store = MemoryStore()
    async with Hodei(store, providers=[workshop.provider()]) as hodei:
        first = await hodei.submit("print one")
    async with Hodei(store, providers=[workshop.provider()]) as hodei:
        assert (await hodei.handle(first.id).wait()).stdout == "one\n"
        assert (await hodei.run("print two")).ok


async def test_a_store_belongs_to_one_hodei_at_a_time(workshop: Workshop) -> None:
    store = MemoryStore()
    async with Hodei(store, providers=[workshop.provider()]):
        with pytest.raises(RuntimeError, match="another open Hodei"):
            async with Hodei(store, providers=[Workshop().provider()]):
                raise AssertionError


class StuckProvider(ScriptedProvider):
    """Is stuck when it is opened, or when it is to make a worker, until that is cancelled."""

    def __init__(self, *, at: str, how: Exception | None = None) -> None:
        super().__init__()
        self._at = at
        self._how = how
        self.stuck = anyio.Event()
        self.told: list[str] = []
        self.told_at_last = ["cancelled"] if at == "open" else ["cancelled", "closed"]

    async def open(self, host: ProviderHost) -> None:
        await self._stop("open")
        await super().open(host)

    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        await self._stop("provision")
        return await super().provision(worker_id)

    async def close(self) -> None:
        self.told.append("closed")
        await super().close()

    async def _stop(self, here: str) -> None:
        if here != self._at:
            return
        if self._how is not None:
            raise self._how
        self.stuck.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.told.append("cancelled")
            raise


async def _succeed(_execution: Execution, _output: Output) -> None:
    return None


async def _nothing_lives() -> bool:
    """Return whether no task of ours is left."""
    return not [task for task in anyio.get_running_tasks() if "hodei" in (task.name or "")]


@pytest.mark.parametrize(("asked", "given"), [(60.0, 10.0), (3.0, 3.0)])
async def test_a_shutdown_gives_no_job_more_than_ten_seconds_of_grace(
    asked: float, given: float
) -> None:
    provider = ScriptedProvider()
    with anyio.fail_after(LIMIT), pytest.raises(KeyError):
        async with Hodei(providers=[provider]) as hodei:
            await hodei.submit("hang", grace=asked)
            await anyio.wait_all_tasks_blocked()
            raise KeyError
    assert provider.sessions[0].graces == [given]


async def test_a_cancel_gives_the_whole_grace() -> None:
    provider = ScriptedProvider()
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider]) as hodei:
            job = await hodei.submit("hang", grace=60)
            await anyio.wait_all_tasks_blocked()
            await job.cancel()
    assert provider.sessions[0].graces == [60.0]


async def test_what_had_not_started_when_all_was_interrupted_ends_cancelled() -> None:
    """Rule 9: assigned jobs that never started go back, and the memory store has no later."""
    provider = ScriptedProvider()
    with anyio.fail_after(LIMIT), pytest.raises(KeyError):
        async with Hodei(providers=[provider]) as hodei:
            job = await hodei.submit("never starts")
            while (await job.snapshot()).state is not JobState.ASSIGNED:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            raise KeyError
    result = await job.wait()
    assert (result.state, result.reason) == (JobState.CANCELLED, Reason.INTERRUPTED)
    assert result.attempts == ()


async def test_what_is_submitted_while_it_closes_is_refused_or_runs(workshop: Workshop) -> None:
    """The catalogue's C10: never accepted and lost."""
    accepted: list[JobHandle] = []
    refused = anyio.Event()
    hodei = Hodei(providers=[workshop.provider()])

    async def submit_on_and_on() -> None:
        while True:
            try:
                accepted.append(await hodei.submit("exit 0"))
            except HodeiClosedError:
                refused.set()
                return
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            async with hodei:
                await hodei.run("exit 0")
                tasks.start_soon(submit_on_and_on)
                await until(lambda: len(accepted) > 20)
    assert refused.is_set()
    for job in accepted:
        assert (await job.wait()).ok
