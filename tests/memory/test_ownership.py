"""A memory store belongs to one `Hodei` at a time, and outlives each."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from hodei_core import Execution, Hodei, HodeiClosedError, JobState, Output, ProvisionError
from hodei_core.backends.memory import MemoryProvider, MemoryStore
from hodei_core.ids import HostId


async def greet(execution: Execution, output: Output) -> None:
    await output.write(f"hello from {execution.spec.name}\n")


def opening(store: MemoryStore) -> Hodei:
    return Hodei(store, providers=[MemoryProvider(greet)])


async def test_a_second_hodei_is_refused() -> None:
    with anyio.fail_after(10):
        store = MemoryStore()
        async with opening(store) as first:
            with pytest.raises(RuntimeError, match="belongs to another open Hodei"):
                async with opening(store):
                    pass
            assert (await first.run("x", name="me")).stdout == "hello from me\n"


async def test_a_refused_hodei_does_not_let_the_first_one_s_store_go() -> None:
    with anyio.fail_after(10):
        store = MemoryStore()
        async with opening(store):
            for _ in range(2):
                with pytest.raises(RuntimeError, match="belongs to another open Hodei"):
                    async with opening(store):
                        pass


async def test_a_refused_hodei_does_not_end_the_workers_of_the_first_one_s_provider() -> None:
    with anyio.fail_after(10):
        provider = MemoryProvider(greet, min_workers=1)
        async with Hodei(MemoryStore(), providers=[provider]) as first:
            with pytest.raises(ProvisionError, match="belongs to another open Hodei"):
                async with Hodei(MemoryStore(), providers=[provider]):
                    pass
            assert (await first.stats()).slots_total == 1


async def test_a_closed_store_may_be_given_to_the_next_hodei() -> None:
    with anyio.fail_after(10):
        store = MemoryStore()
        async with opening(store) as first:
            job = await first.submit("x", name="first", key="k")
            await job.wait()
        async with opening(store) as second:
            assert (await second.get_job(job.id)).state is JobState.SUCCEEDED
            assert (await second.submit("x", name="first", key="k")).id == job.id
            assert (await second.run("x", name="second")).ok
            assert await second.handle(job.id).output() == b"hello from first\n"
            assert [j.spec.name for j in await second.list_jobs()] == ["second", "first"]


async def test_reads_go_on_after_the_close_and_submits_do_not() -> None:
    with anyio.fail_after(10):
        async with opening(MemoryStore()) as hodei:
            job = await hodei.submit("x", name="me")
        result = await job.wait()
        assert (result.stdout, result.duration) >= ("hello from me\n", timedelta(0))
        assert [entry.text async for entry in job.logs()] == ["hello from me"]
        with pytest.raises(HodeiClosedError):
            await hodei.submit("x")


async def test_opening_and_closing_is_what_takes_and_lets_go() -> None:
    store = MemoryStore()
    await store.close()
    for name in ("one", "two"):
        await store.open(HostId(name))
        with pytest.raises(RuntimeError):
            await store.open(HostId("three"))
        await store.close()


@pytest.mark.parametrize(
    ("name", "value"), [("keep", 0), ("keep", -1), ("keep", 1.5), ("log_bytes", -1)]
)
def test_a_bound_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        MemoryStore(**{name: value})  # type: ignore[arg-type]  # what is under test
