"""Ctrl-C while the main thread waits: what it ends, and what it leaves alone."""

from __future__ import annotations

import random
import time

import pytest

from tests.blocking.programs import interrupted, program


def test_in_run_it_cancels_the_job_and_goes_on_when_that_is_stored() -> None:
    """A child fled to a session of its own, and ignores SIGTERM; `program` looks for it."""
    printed = interrupted(
        """
        def tree_is_there():
            return any(
                "two" in hodei.handle(job.id).output().decode()
                for job in hodei.list_jobs(states=JobState.RUNNING)
            )
        with Hodei() as hodei:
            once("run", also=tree_is_there)
            try:
                hodei.run("trap '' TERM; setsid sleep 1000 & echo two; sleep 1000", grace=0.2)
            except KeyboardInterrupt:
                job, = hodei.list_jobs()
                say(job.state.name, job.reason.name, hodei.stats().slots_used)
                say(hodei.run("echo goes on").stdout.strip())
        """
    )
    assert printed == "CANCELLED CANCELLED 0\ngoes on\n"


def test_in_run_it_waits_for_a_handler_that_cleans_up() -> None:
    printed = interrupted(
        """
        cleaning = threading.Event()
        async def handler(execution, output):
            cleaning.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.3)
                say("cleaned up")
        with memory(handler) as hodei:
            once("run", also=cleaning.is_set)
            try:
                hodei.run("x")
            except KeyboardInterrupt:
                say(hodei.list_jobs()[0].state.name)
        """
    )
    assert printed == "cleaned up\nCANCELLED\n"


@pytest.mark.parametrize(
    ("name", "wait"),
    [
        ("wait", "job.wait()"),
        ("wait", "job.wait(timeout=1000)"),
        ("join", "hodei.join()"),
        ("drain", "hodei.drain()"),
        ("__next__", "list(job.logs(after=1))"),
        ("__next__", "list(job.logs(after=1).batches())"),
        ("__next__", "next(events)"),
    ],
)
def test_in_a_wait_it_ends_the_wait_alone(name: str, wait: str) -> None:
    printed = interrupted(
        f"""
        with memory() as hodei, hodei.events(JobFinished) as events:
            job = begun(hodei.submit("x"))
            once({name!r})
            try:
                {wait}
            except KeyboardInterrupt:
                say(job.snapshot().state.is_final)
                say(job.cancel().state.name)
                say(next(events).state.name)
        """
    )
    assert printed == "False\nended\nCANCELLED\nCANCELLED\n"


@pytest.mark.parametrize(
    ("name", "call"), [("cancel", "job.cancel()"), ("cancel_jobs", "hodei.cancel_jobs()")]
)
def test_in_a_cancel_it_ends_the_wait_and_the_request_stands(name: str, call: str) -> None:
    printed = interrupted(
        f"""
        ending, allowed = threading.Event(), threading.Event()
        async def handler(execution, output):
            await output.write("begun\\n")
            try:
                await anyio.sleep_forever()
            finally:
                ending.set()
                with anyio.CancelScope(shield=True):
                    while not allowed.is_set():
                        await anyio.sleep(0.001)
        with memory(handler) as hodei:
            job = begun(hodei.submit("x"))
            once({name!r}, also=ending.is_set)
            try:
                {call}
            except KeyboardInterrupt:
                say(job.snapshot().state.is_final)
                allowed.set()
                say(job.wait().state.name)
        """
    )
    assert printed == "False\nCANCELLED\n"


def test_nothing_that_was_read_is_lost_with_the_wait() -> None:
    printed = interrupted(
        """
        from hodei_core.blocking import LogStream
        fetch = LogStream._fetch
        interrupt = threading.Event()
        async def late(stream):
            await fetch(stream)
            interrupt.set()
            await anyio.sleep_forever()
        with memory() as hodei:
            logs = begun(hodei.submit("x")).logs()
            LogStream._fetch = late
            once("__next__", also=interrupt.is_set)
            try:
                next(logs)
            except KeyboardInterrupt:
                LogStream._fetch = fetch
                say(next(logs).text)
                hodei.cancel_jobs()
                say(list(logs))
        """
    )
    assert printed == "begun\nended\n[]\n"


def test_it_leaves_the_block_at_once() -> None:
    printed = interrupted(
        """
        try:
            with memory() as hodei:
                jobs = [begun(hodei.submit("x")), hodei.submit("y", delay=1000)]
                once("wait")
                jobs[0].wait()
        except KeyboardInterrupt:
            say(*(job.snapshot().reason.name for job in jobs), threads())
        """
    )
    assert printed == "ended\nINTERRUPTED INTERRUPTED 1\n"


def test_in_a_normal_leave_it_ends_every_job_at_once() -> None:
    printed = interrupted(
        """
        try:
            with Hodei() as hodei:
                jobs = [
                    begun(hodei.submit("trap '' TERM; setsid sleep 1000 & echo b; sleep 1000",
                                       grace=0.2)),
                    hodei.submit("true", delay=1000),
                ]
                once("__exit__")
        except KeyboardInterrupt:
            say(*(job.snapshot().reason.name for job in jobs))
            say([each.name for each in threading.enumerate() if each.name.startswith("hodei")])
        """
    )
    assert printed == "INTERRUPTED INTERRUPTED\n[]\n"


def test_in_close_it_ends_every_job_at_once() -> None:
    printed = interrupted(
        """
        hodei = memory().open()
        job = begun(hodei.submit("x"))
        once("close")
        try:
            hodei.close()
        except KeyboardInterrupt:
            say(job.wait().reason.name, job.output())
        """
    )
    assert printed == "ended\nINTERRUPTED b'begun\\n'\n"


def test_one_that_does_not_wake_the_main_thread_is_noticed_soon() -> None:
    """As one does that comes just before the thread sleeps: the system gave it to another."""
    with program(
        """
        def interrupt():
            while not main_waits_in("wait"):
                time.sleep(0.001)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        with memory() as hodei:
            job = begun(hodei.submit("x"))
            threading.Thread(target=interrupt).start()
            try:
                job.wait()
            except KeyboardInterrupt:
                job.cancel()
        """
    ) as running:
        assert running.end() == "ended\n"


def test_while_it_opens_it_leaves_nothing() -> None:
    printed = interrupted(
        """
        from hodei_core.backends.memory import MemoryStore
        class Slow(MemoryStore):
            async def open(self, host_id):
                await anyio.sleep_forever()
        once("__enter__")
        try:
            with Hodei(Slow(), providers=[]):
                say("opened")
        except KeyboardInterrupt:
            say(threading.active_count() - 1)  # the one that looked
        """
    )
    assert printed in ("0\n", "1\n")


def test_a_further_one_goes_on_at_once_and_the_end_of_the_program_ends_the_rest() -> None:
    started = time.monotonic()
    printed = interrupted(
        """
        try:
            with Hodei() as hodei:
                job = begun(hodei.submit("trap '' TERM; echo b; sleep 1000", grace=1000))
                once("__exit__", then="_interrupt")
        except KeyboardInterrupt as error:
            say("left", type(error.__context__).__name__)
        """,
        times=2,
    )
    assert printed == "left KeyboardInterrupt\n"
    assert time.monotonic() - started < 10  # the interruption alone would take that


def test_an_event_loop_that_stands_still_holds_it_up_for_a_bounded_time() -> None:
    printed = interrupted(
        """
        go_on = threading.Event()
        async def handler(execution, output):
            go_on.wait()
        with memory(handler) as hodei:
            job = hodei.submit("x")
            once("stats")
            try:
                while True:
                    hodei.stats()
            except KeyboardInterrupt:
                say("goes on")
                go_on.set()
        """
    )
    assert printed == "goes on\n"


@pytest.mark.slow
def test_at_random_moments_it_never_hangs_or_leaves_a_job() -> None:
    chance = random.Random(20)
    for _ in range(20):
        with program(
            """
            live = 0
            async def handler(execution, output):
                global live
                live += 1
                try:
                    await anyio.sleep(0.0005)
                finally:
                    live -= 1
            try:
                with memory(handler) as hodei:
                    say("now")
                    while True:
                        hodei.submit_many(["x"] * 5)
                        hodei.join()
                        hodei.run("y")
            except KeyboardInterrupt:
                say("interrupted", live, threads())
            """
        ) as running:
            assert running.line() == "now"
            for _ in range(chance.randrange(100_000)):
                pass
            running.interrupt()
            assert running.end() == "interrupted 0 1\n"
