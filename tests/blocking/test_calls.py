"""What calls return and raise: while it is open, before, after, from elsewhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from hodei_core import (
    Execution,
    HodeiBrokenError,
    HodeiClosedError,
    InvalidJobError,
    JobFailedError,
    JobFinished,
    JobNotFoundError,
    JobSpec,
    JobState,
    LogEntry,
    LogSource,
    Output,
    ProvisionError,
    Reason,
    SubscriberLagged,
)
from hodei_core.backends.memory import MemoryProvider, MemoryStore
from hodei_core.blocking import Hodei, JobHandle
from hodei_core.ports import ProviderHost
from tests.blocking.programs import run


async def handler(execution: Execution, output: Output) -> int:
    """Do what the command says."""
    assert isinstance(execution.spec.command, str)
    match execution.spec.command.split():
        case ["print", *words]:
            await output.write(" ".join(words) + "\n")
        case ["exit", code]:
            return int(code)
        case ["hang"]:
            await output.write("begun\n")
            await anyio.sleep_forever()
        case ["raise", _]:
            raise SystemExit("enough")
    return 0


def new(slots: int = 8) -> Hodei:
    return Hodei(providers=[MemoryProvider(handler, slots=slots)])


def begun(job: JobHandle) -> JobHandle:
    for _ in job.logs():
        break
    return job


@pytest.fixture
def hodei() -> Iterator[Hodei]:
    with new() as hodei:
        yield hodei


def hodei_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hodei"]


def test_every_call_answers(hodei: Hodei) -> None:
    job = hodei.submit("print one", name="first", labels={"a": "b"})
    result = job.wait(timeout=30)
    assert (result.state, result.stdout) == (JobState.SUCCEEDED, "one\n")
    assert job == hodei.handle(job.id)
    assert hash(job) == hash(hodei.handle(job.id))
    assert job != "x"
    assert repr(job) == f"blocking.JobHandle({job.id!r})"
    assert job.snapshot() == hodei.get_job(job.id) == hodei.list_jobs(name="first")[0]
    assert job.cancel() == result
    assert job.output(source=LogSource.STDOUT) == b"one\n"
    assert job.explain().state is JobState.SUCCEEDED
    again = job.retry()
    assert isinstance(again, JobHandle)
    assert again.wait().stdout == "one\n"
    handles = hodei.submit_many(f"print {n}" for n in range(3))
    hodei.join()
    assert [handle.wait().stdout for handle in handles] == ["0\n", "1\n", "2\n"]
    assert hodei.stats().jobs[JobState.SUCCEEDED] == 5
    assert len(hodei.list_workers()) == 1
    hodei.drain()
    waiting = hodei.submit(JobSpec("print two"))
    assert hodei.cancel_jobs(states=JobState.PENDING, reason="no") == 1
    assert waiting.wait().message == "no"
    hodei.resume()
    assert hodei.run("exit 3").exit_code == 3
    assert hodei.prune(older_than=0) == 7
    assert repr(hodei) == "<blocking.Hodei open MemoryStore>"


def test_errors_come_as_they_are(hodei: Hodei) -> None:
    with pytest.raises(JobNotFoundError):
        hodei.get_job("x")
    with pytest.raises(JobFailedError, match="exit code 2"):
        hodei.run("exit 2", check=True)
    with pytest.raises(InvalidJobError, match="timeout"):
        hodei.submit("x", timeout=-1)
    with pytest.raises(TypeError, match="tiemout"):
        hodei.submit("x", tiemout=1)  # type: ignore[call-overload]
    for call in (hodei.submit, hodei.run):
        with pytest.raises(TypeError, match=r"attrs\.evolve"):
            call(JobSpec("x"), name="n")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="one str"):
        hodei.submit_many("x")
    with pytest.raises(TypeError, match="classes of events"):
        hodei.events(3)  # type: ignore[call-overload]
    job = begun(hodei.submit("hang"))
    with pytest.raises(ValueError, match="exclude"):
        job.logs(after=1, tail=1)
    with pytest.raises(TimeoutError):
        job.wait(timeout=0)
    assert not job.snapshot().state.is_final
    job.cancel()
    with pytest.raises(ValueError, match="max_pending"):
        Hodei(max_pending=0)


def test_jobs_are_iterated_over_in_the_thread_that_gives_them(hodei: Hodei) -> None:
    def specs() -> Iterator[str]:
        for n in range(3):
            assert threading.current_thread() is threading.main_thread()
            yield hodei.run(f"print {n}").stdout.strip()  # a call within a call

    assert len(hodei.submit_many(specs())) == 3


def test_an_exception_of_the_body_leaves_as_it_was_raised_and_ends_what_runs() -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, new() as hodei:
        job = begun(hodei.submit("hang"))
        raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    assert job.wait().reason is Reason.INTERRUPTED
    assert hodei_threads() == []


def test_leaving_normally_waits() -> None:
    with new(slots=1) as hodei:
        jobs = hodei.submit_many(["print x"] * 20)
    assert {job.wait().state for job in jobs} == {JobState.SUCCEEDED}


class Refusing(MemoryProvider):
    async def open(self, host: ProviderHost) -> None:
        raise ProvisionError("no such image", permanent=True)


def test_an_error_of_opening_comes_as_it_is_and_nothing_is_left() -> None:
    hodei = Hodei(providers=[Refusing(handler)])
    with pytest.raises(ProvisionError, match="no such image"):
        hodei.open()
    assert hodei_threads() == []
    with pytest.raises(RuntimeError, match="opened once"):
        hodei.open()
    hodei.close()


def test_it_is_opened_once() -> None:
    with new() as hodei:
        with pytest.raises(RuntimeError, match="opened once"):
            hodei.open()
        assert hodei.run("print x").ok
    with pytest.raises(RuntimeError, match="opened once"), hodei:
        raise AssertionError("not reached")


def test_before_it_is_open_calls_say_so() -> None:
    hodei = new()
    calls: list[Callable[[], object]] = [
        lambda: hodei.submit("x"),
        lambda: hodei.run("x"),
        hodei.stats,
        hodei.handle("x").wait,
        lambda: list(hodei.handle("x").logs()),
        hodei.events,
    ]
    for call in calls:
        with pytest.raises(HodeiClosedError, match="not open"):
            call()
    hodei.close()
    assert hodei_threads() == []


def test_close_is_idempotent_and_may_come_from_any_thread() -> None:
    hodei = new().open()
    begun_job = begun(hodei.submit("hang"))
    with ThreadPoolExecutor(3) as pool:
        closings = [pool.submit(hodei.close) for _ in range(3)]
        begun_job.cancel()
        for closing in closings:
            assert closing.result() is None
    hodei.close()
    assert hodei_threads() == []


def test_after_the_close_a_memory_store_answers_what_only_reads() -> None:
    store = MemoryStore()
    with Hodei(store, providers=[MemoryProvider(handler)]) as hodei:
        job = hodei.submit("print one", name="n")
        logs = job.logs()
    assert hodei_threads() == []
    assert job.wait().stdout == "one\n"
    assert job.output() == b"one\n"
    assert [entry.text for entry in logs] == ["one"]
    assert [len(batch) for batch in job.logs().batches()] == [1]
    assert job.snapshot() == hodei.get_job(job.id) == hodei.list_jobs()[0]
    assert hodei.stats().pending == 0
    assert hodei.list_workers() == []
    hodei.join()
    assert str(job.explain())
    assert hodei.handle(job.id).cancel().ok
    with hodei.events() as events:
        assert list(events) == []
    assert hodei.prune(older_than=0) == 1
    refused: list[Callable[[], object]] = [
        lambda: hodei.submit("x"),
        lambda: hodei.run("x"),
        lambda: hodei.submit_many(["x"]),
        hodei.resume,
        job.retry,
    ]
    for call in refused:
        with pytest.raises(HodeiClosedError):
            call()
    assert hodei_threads() == []


def test_the_next_one_takes_over_a_memory_store() -> None:
    store = MemoryStore()
    with Hodei(store, providers=[MemoryProvider(handler)]) as first:
        job = first.submit("print one")
    with Hodei(store, providers=[]) as second:
        assert second.handle(job.id).wait().stdout == "one\n"


def test_whoever_waits_while_another_thread_closes_is_told() -> None:
    hodei = new().open()
    job = hodei.submit("x", delay=1000)
    with ThreadPoolExecutor() as pool, hodei.events(JobFinished) as events:
        wait = pool.submit(job.wait)
        logs = pool.submit(list[LogEntry], job.logs())
        join = pool.submit(hodei.join)
        told = pool.submit(list[JobFinished | SubscriberLagged], events)
        hodei.__exit__(KeyError, KeyError(), None)
        assert wait.result(30).reason is Reason.INTERRUPTED
        assert logs.result(30) == []
        assert join.result(30) is None
        assert len(told.result(30)) == 1
    assert hodei_threads() == []


def test_many_threads_use_it_at_once(hodei: Hodei) -> None:
    def work(number: int) -> list[str]:
        said = []
        for turn in range(20):
            job = hodei.submit(f"print {number} {turn}")
            said += [entry.text for entry in job.logs()]
            assert job.wait().ok
            hodei.stats()
        return said

    with ThreadPoolExecutor(8) as pool:
        for number, said in enumerate(pool.map(work, range(8))):
            assert said == [f"{number} {turn}" for turn in range(20)]
    assert len(hodei_threads()) == 1


def test_threads_that_call_while_it_closes_get_answers_or_errors_and_never_hang() -> None:
    for _ in range(20):
        hodei = new().open()
        job = hodei.submit("print x")
        job.wait()
        started = threading.Barrier(5)

        def ask(hodei: Hodei, job: JobHandle, started: threading.Barrier) -> None:
            started.wait()
            for _ in range(30):
                assert job.wait().stdout == "x\n"
                hodei.stats()

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask, hodei, job, started) for _ in range(4)]
            started.wait()
            hodei.close()
            for each in asking:
                each.result(30)
    assert hodei_threads() == []


def test_a_call_from_its_own_event_loop_is_refused() -> None:
    refused: list[str] = []

    async def calls(execution: Execution, output: Output) -> None:
        if execution.spec.command == "outer":
            for call in (hodei.stats, hodei.close, job.logs, lambda: hodei.submit("inner")):
                with pytest.raises(RuntimeError, match="its own event loop") as caught:
                    call()
                refused.append(str(caught.value))
            inner = await anyio.to_thread.run_sync(hodei.submit, "inner")
            result = await anyio.to_thread.run_sync(inner.wait)
            assert result.ok

    with Hodei(providers=[MemoryProvider(calls, slots=2)]) as hodei:
        job = hodei.handle("x")
        hodei.run("outer", check=True)
    assert len(refused) == 4


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it_is_made_and_used_where_an_event_loop_runs() -> None:
    """As in a notebook; the calls hold that event loop up."""
    with new() as hodei:
        assert hodei.run("print x").stdout == "x\n"
    assert hodei.stats().jobs[JobState.SUCCEEDED] == 1


def test_a_thread_that_has_the_number_of_one_that_ended_is_not_taken_for_it() -> None:
    with new() as hodei:
        number = hodei._portal.here(threading.get_ident)
    same: list[bool] = []

    def ask() -> None:
        hodei.stats()
        same.append(threading.get_ident() == number)

    for _ in range(100):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        if any(same):
            break
    assert len(same) == 100 or same[-1]


def test_a_handler_that_ends_the_program_does() -> None:
    """What the body got of it gives way to it."""
    with pytest.raises(SystemExit, match="enough"), new() as hodei:
        hodei.submit("raise exit").wait()
        while True:
            hodei.stats()
            hodei.submit("print x")
    assert hodei_threads() == []


def test_when_it_breaks_calls_and_the_end_of_the_block_raise() -> None:
    bug = ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError) as caught, new() as hodei:
        job = begun(hodei.submit("hang"))
        hodei._portal.here(lambda: hodei._twin._host.fail(bug))
        with pytest.raises(HodeiBrokenError) as told:
            job.wait()
        assert told.value.__cause__ is bug
    assert caught.value is bug
    assert hodei_threads() == []


def test_a_forked_child_is_refused_and_never_hangs() -> None:
    printed = run(
        """
        with memory(succeed) as hodei, hodei.events() as events:
            job = hodei.submit("x")
            job.wait()
            logs = job.logs()
            child = os.fork()
            if not child:
                said = []
                for call in (
                    lambda: hodei.submit("y"), lambda: hodei.run("y"), job.wait, hodei.stats,
                    job.cancel, job.logs, lambda: next(logs), hodei.events, lambda: next(events),
                    hodei.close, hodei.open, lambda: hodei.__exit__(None, None, None),
                ):
                    try:
                        call()
                    except ForkedError:
                        said.append("refused")
                say(len(said), threading.active_count())
                sys.exit()  # through the block, and through what runs at exit
            assert os.waitpid(child, 0)[1] == 0
            assert hodei.run("z").ok
            say("parent")
        """
    )
    assert printed == "12 1\nparent\n"


def test_one_made_before_a_fork_is_opened_by_the_child() -> None:
    run(
        """
        hodei = memory(succeed)
        child = os.fork()
        with hodei:
            assert hodei.run("x").ok
        if child:
            assert os.waitpid(child, 0)[1] == 0
        """
    )


def test_importing_the_library_does_not_import_it() -> None:
    printed = run(
        """
        import subprocess
        code = "import sys, hodei_core; print([n for n in sys.modules if 'blocking' in n])"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        """
    )
    assert printed == "[]\n\n"


def test_log_records_are_made_in_the_context_of_the_caller(
    hodei: Hodei, caplog: pytest.LogCaptureFixture
) -> None:
    """As they are with the async twin: a request's id, say, is there for a filter."""
    import contextvars
    import logging

    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    request.set("mine")
    seen: list[str] = []

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if getattr(record, "action", "") == "submitted":
                seen.append(request.get())
            return True

    logger = logging.getLogger("hodei_core.jobs")
    before = Filter()
    logger.addFilter(before)
    try:
        with caplog.at_level(logging.INFO, "hodei_core"):
            hodei.submit("print x").wait()
    finally:
        logger.removeFilter(before)
    assert seen == ["mine"]


def test_it_works_without_a_free_descriptor_no_more_than_the_async_one() -> None:
    """A thread that cannot make its event loop says why."""
    printed = run(
        """
        import resource
        sys.unraisablehook = lambda _: None  # asyncio's own half-made event loop complains
        with memory(succeed) as hodei:
            hodei.run("x")
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
        try:
            with memory(succeed):
                say("opened")
        except OSError as error:
            say(error.errno == 24, threading.active_count())
        """
    )
    assert printed == "True 1\n"
    assert os.getpid()
