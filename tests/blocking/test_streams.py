"""Logs and events, read by `for`."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import anyio
import pytest

from hodei_core import (
    Execution,
    HodeiClosedError,
    JobFinished,
    JobStarted,
    JobSubmitted,
    Output,
    SubscriberLagged,
)
from hodei_core.backends.memory import MemoryProvider
from hodei_core.blocking import Hodei
from hodei_core.blocking.loop_thread import LoopThread

gates: dict[str, threading.Event] = {}


async def handler(execution: Execution, output: Output) -> None:
    """Print as many lines as the command says; a name waits for its gate in between."""
    command = execution.spec.command
    assert isinstance(command, str)
    if command.isdigit():
        await output.write("".join(f"{n}\n" for n in range(1, int(command) + 1)))
        return
    for word in command.split():
        await output.write(f"{word}\n")
        while not gates[word].is_set():  # noqa: ASYNC110 - another thread sets it
            await anyio.sleep(0.001)


@pytest.fixture
def hodei() -> Iterator[Hodei]:
    gates.clear()
    gates.update((name, threading.Event()) for name in "abc")
    with Hodei(providers=[MemoryProvider(handler, slots=4)], shutdown_timeout=0) as hodei:
        yield hodei


def test_entries_come_while_the_job_runs(hodei: Hodei) -> None:
    """Each is read before the job may go on: no batch waits to be filled."""
    job = hodei.submit("a b c")
    seen = []
    for entry in job.logs():
        seen.append(entry.text)
        gates[entry.text].set()
    assert seen == ["a", "b", "c"]


def test_batches_come_while_the_job_runs(hodei: Hodei) -> None:
    job = hodei.submit("a b c")
    seen = []
    for batch in job.logs().batches():
        seen += [entry.text for entry in batch]
        gates[batch[-1].text].set()
    assert seen == ["a", "b", "c"]


def test_one_call_brings_a_batch(hodei: Hodei, monkeypatch: pytest.MonkeyPatch) -> None:
    job = hodei.submit("5000")
    job.wait()
    calls = 0
    call = LoopThread.call

    def counted(self: LoopThread, *args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return call(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(LoopThread, "call", counted)
    logs = job.logs()
    assert [entry.seq for entry in logs] == list(range(1, 5001))
    assert calls <= 1 + 5 + 1 + 1  # to make it, the batches, one that is cut, the end
    assert list(logs) == []
    calls = 0
    sizes = [len(batch) for batch in job.logs().batches()]
    assert sum(sizes) == 5000
    assert max(sizes) == 1000
    assert calls <= 1 + 5 + 1 + 1


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2500])
def test_a_loop_may_be_left_anywhere_and_gone_on_with(hodei: Hodei, count: int) -> None:
    job = hodei.submit("2500")
    job.wait()
    logs = job.logs()
    first = [next(logs).seq for _ in range(count)]
    if count == 2:
        batch = next(logs.batches())  # what was fetched for the loop comes first
        first += [entry.seq for entry in batch]
    assert first + [entry.seq for entry in logs] == list(range(1, 2501))


def test_what_is_left_is_freed(hodei: Hodei) -> None:
    job = hodei.submit("2500")
    logs = job.logs()
    with logs as same:
        assert same is logs
        for _ in logs:
            break
    gone = weakref.ref(logs)
    del logs, same
    gc.collect()
    assert gone() is None


def test_arguments_reach_the_log(hodei: Hodei) -> None:
    job = hodei.submit("10")
    job.wait()
    assert [entry.seq for entry in job.logs(after=8)] == [9, 10]
    assert [entry.seq for entry in job.logs(tail=3, follow=False)] == [8, 9, 10]


def test_the_tail_is_that_of_the_call(hodei: Hodei) -> None:
    """Not that of the first entry asked for."""
    job = hodei.submit("a b c")
    reader = job.logs()
    next(reader)
    logs = job.logs(tail=0)
    for name in "abc":
        gates[name].set()
    assert [entry.text for entry in logs] == ["b", "c"]


def test_a_log_of_a_job_that_never_ends_raises_when_all_is_closed(hodei: Hodei) -> None:
    other = Hodei(providers=[]).open()
    job = other.submit("x")
    logs = job.logs()
    other.close()
    assert list(logs) == []  # its memory store ended it
    with pytest.raises(HodeiClosedError):
        other.submit("x")


def test_events_are_seen_from_the_beginning_of_the_block(hodei: Hodei) -> None:
    hodei.run("1")
    with hodei.events(JobSubmitted, JobFinished) as events:
        job = hodei.submit("1")
        kinds = [next(events), next(events)]
    assert [type(event) for event in kinds] == [JobSubmitted, JobFinished]
    assert {event.job_id for event in kinds if not isinstance(event, SubscriberLagged)} == {job.id}
    assert list(events) == []
    assert not hodei._twin._host.bus


def test_events_outside_the_block_are_refused(hodei: Hodei) -> None:
    with pytest.raises(RuntimeError, match="`with hodei"):
        next(hodei.events())


def test_a_slow_reader_of_events_is_told_what_it_missed(hodei: Hodei) -> None:
    with hodei.events(JobSubmitted, JobStarted) as events:
        handles = hodei.submit_many(["1"] * 5000)
        assert len(handles) == 5000
        first = next(events)
        assert isinstance(first, SubscriberLagged)
        assert first.missed >= 5000 - 4096


def test_leaving_a_loop_over_events_leaves_no_subscriber(hodei: Hodei) -> None:
    with pytest.raises(KeyError), hodei.events() as events:
        hodei.submit("1")
        for _ in events:
            raise KeyError
    assert not hodei._twin._host.bus
