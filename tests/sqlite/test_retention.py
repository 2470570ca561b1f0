"""A host deletes by policy what has ended, by its own clock, and readers are told of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from hodei_core import (
    Hodei,
    HodeiError,
    JobNotFoundError,
    JobState,
    LogSource,
    OutputLostError,
    Retention,
    StoreFullError,
)
from hodei_core.backends.memory import MemoryProvider, MemoryStore
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.executions import Execution, Output
from hodei_core.ports import Change, Outcome, Retain
from hodei_core.runtime.retaining import LOOK_SECONDS
from hodei_core.testing import FakeClock
from tests.sqlite.keeping import check_file, select

KIB = 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


async def work(execution: Execution, output: Output) -> int:
    """Print as many KiB as the command says, as lines of 1 KiB; exit as `-` in it says."""
    size, _, code = str(execution.spec.command).partition("-")
    for _ in range(int(size)):
        await output.write(b"x" * 1023 + b"\n")
    return int(code or 0)


def host(path: Path, clock: FakeClock, retention: Retention | None) -> Hodei:
    return Hodei(
        SqliteStore(path, synchronous="NORMAL", retention=retention),
        providers=[MemoryProvider(work, slots=4)],
        clock=clock,
        shutdown_timeout=0,
    )


async def until(met: Callable[[], Awaitable[bool]], clock: FakeClock | None = None) -> None:
    """Let time of a clock pass until a fact is there."""
    with anyio.fail_after(20):
        while not await met():
            if clock is not None:
                clock.advance(LOOK_SECONDS / 4)
            await anyio.sleep(0.005)


def test_the_defaults_are_those_that_the_page_tells() -> None:
    assert SqliteStore("jobs.db").retention == Retention(
        max_age=timedelta(days=7),
        failed_max_age=timedelta(days=30),
        max_jobs=1_000_000,
        max_log_bytes=1 << 30,
    )
    assert SqliteStore("jobs.db", retention=None).retention is None
    assert MemoryStore().retention is None


@pytest.mark.parametrize("name", ["max_age", "failed_max_age", "max_jobs", "max_log_bytes"])
@pytest.mark.parametrize("value", [-1, "long", float("nan")], ids=["negative", "text", "nan"])
def test_a_limit_that_is_none_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=name):
        Retention(**{name: value})  # type: ignore[arg-type]


def test_a_store_refuses_what_is_no_retention() -> None:
    with pytest.raises(TypeError, match="retention"):
        SqliteStore("jobs.db", retention=7)  # type: ignore[arg-type]


async def test_jobs_go_when_they_are_too_old_failed_ones_later(path: Path) -> None:
    clock = FakeClock()
    async with host(path, clock, Retention(max_age=1000, failed_max_age=5000)) as hodei:
        good, bad = await hodei.submit("1"), await hodei.submit("1-3")
        await good.wait()
        await bad.wait()
        later = await hodei.submit("0", delay=10**6)

        async def left() -> int:
            return len(await hodei.list_jobs())

        async def two_left() -> bool:
            return await left() == 2

        async def one_left() -> bool:
            return await left() == 1

        clock.advance(900)
        await until(two_left, clock)
        with pytest.raises(JobNotFoundError):
            await good.snapshot()
        assert (await bad.snapshot()).state is JobState.FAILED
        clock.advance(5000)
        await until(one_left, clock)
        assert (await later.snapshot()).state is JobState.PENDING
    check_file(path)


async def test_what_was_too_old_before_goes_when_a_host_opens(path: Path) -> None:
    clock = FakeClock()
    async with host(path, clock, None) as hodei:
        await hodei.run("1")
        clock.advance(10**6)
        assert len(await hodei.list_jobs()) == 1
    async with host(path, clock, Retention(max_age=10)) as hodei:

        async def gone() -> bool:
            return not await hodei.list_jobs()

        await until(gone)  # no time passes


async def test_a_client_deletes_nothing(path: Path) -> None:
    clock = FakeClock()
    async with host(path, clock, None) as hodei:
        await hodei.run("1")
        clock.advance(10**6)
    store = SqliteStore(path, retention=Retention(max_age=10))
    async with Hodei(store, providers=[], clock=clock) as client:
        for number in range(1, 4):
            await client.submit("0")  # whatever was to be written before is written
            assert len(await client.list_jobs()) == 1 + number
            clock.advance(LOOK_SECONDS)


async def test_a_reader_of_a_dropped_log_gets_one_gap_and_output_says_that_it_is_lost(
    path: Path,
) -> None:
    clock = FakeClock()
    async with host(path, clock, Retention(max_log_bytes=40 * KIB)) as hodei:
        first = await hodei.submit("30")
        await first.wait()
        last = await hodei.submit("30")
        await last.wait()

        async def dropped() -> bool:
            ((lost,),) = select(path, "select max(lost) from log_bounds")
            return bool(lost)

        await until(dropped, clock)
        gap, *entries = [entry async for entry in first.logs(follow=False)]
        assert gap.source is LogSource.SYSTEM
        assert (gap.lost, gap.seq, gap.attempt) == (gap.seq, 30 - len(entries), 1)
        assert [entry.seq for entry in entries] == list(range(gap.seq + 1, 31))
        with pytest.raises(OutputLostError):
            await first.output()
        assert (await first.wait()).truncated
        assert len(await last.output()) == 30 * KIB
        assert not (await last.wait()).truncated
        ((size,),) = select(path, "select sum(length(data)) from logs")
        assert size <= 40 * KIB
    check_file(path)


async def test_two_hosts_keep_one_policy_together(path: Path) -> None:
    clock = FakeClock()
    policy = Retention(max_jobs=5, max_log_bytes=20 * KIB)
    async with host(path, clock, policy) as one, host(path, clock, policy) as two:
        for _ in range(20):
            await one.run("2")
            await two.run("2")

        async def few() -> bool:
            return len(await one.list_jobs()) <= 5

        await until(few, clock)
        assert len(await two.list_jobs()) == 5
    check_file(path)


class Refusing(SqliteStore):
    """Refuses to delete, as a full disk does."""

    refusals = 3

    async def apply(self, changes: object) -> list[Outcome]:
        asked: list[Change] = list(changes)  # type: ignore[call-overload]
        if self.refusals and any(isinstance(change, Retain) for change in asked):
            self.refusals -= 1
            msg = "no space"
            raise StoreFullError(msg)
        return await super().apply(asked)


async def test_a_store_that_refuses_is_asked_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    store = Refusing(path, retention=Retention(max_age=10))
    provider = MemoryProvider(work)
    with caplog.at_level(logging.WARNING):
        async with Hodei(store, providers=[provider], clock=clock) as hodei:
            await hodei.run("1")
            clock.advance(100)

            async def gone() -> bool:
                return not await hodei.list_jobs()

            await until(gone, clock)
    told = [record for record in caplog.records if "no space" in record.message]
    assert len(told) == 3
    assert isinstance(StoreFullError("no space"), HodeiError)
