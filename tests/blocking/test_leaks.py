"""Nothing piles up, and nothing keeps the program from ending."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import pytest

from hodei_core.blocking import Hodei
from tests.blocking.programs import program, run

ROUNDS = 50


def census() -> tuple[list[str], list[str], int]:
    """Return descriptors with what they are, the threads, the number of children."""
    descriptors = []
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors.append(os.readlink(f"/proc/self/fd/{name}").partition(":")[0])
        except OSError:
            continue
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
    threads = sorted(thread.name for thread in threading.enumerate())
    return sorted(descriptors), threads, len(children.split())


def test_fifty_openings_leave_as_much_as_five() -> None:
    counts = []
    for turn in range(ROUNDS):
        with pytest.raises(KeyError), Hodei() as hodei, hodei.events() as events:
            job = hodei.submit("echo one; exec sleep 1000")
            for _ in job.logs():
                break
            next(events)
            hodei.run("true", check=True)
            if turn % 2:
                job.cancel()
            raise KeyError
        job.wait()
        assert job.output() == b"one\n"
        if turn in (5, ROUNDS - 1):
            gc.collect()
            counts.append(census())
    early, late = counts
    # What tests before this one had left may go meanwhile: nothing may come.
    assert Counter(late[0]) - Counter(early[0]) == Counter()
    assert Counter(late[1]) - Counter(early[1]) == Counter()
    assert late[2] == 0
    assert "hodei" not in late[1]


def test_one_that_was_closed_is_freed() -> None:
    with Hodei(providers=[]) as hodei:
        hodei.stats()
    gone = weakref.ref(hodei)
    del hodei
    gc.collect()
    assert gone() is None


def test_one_that_was_never_opened_is_freed_and_has_no_thread() -> None:
    before = threading.active_count()
    hodei = Hodei()
    assert threading.active_count() == before
    gone = weakref.ref(hodei)
    del hodei
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "end", ["", "sys.exit(0)", "threading.Thread(target=lambda: begun(job)).start()"]
)
def test_a_program_that_closes_nothing_ends_and_so_do_its_jobs(end: str) -> None:
    """In order: a job that ends at SIGTERM has its time to."""
    printed = run(
        f"""
        async def slow_to_end(execution, output):
            try:
                await hang(execution, output)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.1)
                say("in order")
        hodei = memory(slow_to_end).open()
        job = begun(hodei.submit("x"))
        local = Hodei().open()
        begun(local.submit("echo begun; sleep 1000"))
        {end}
        """
    )
    assert printed == "ended\nin order\n"


@pytest.mark.parametrize(
    "job",
    [
        "Hodei().open().submit(\"trap '' TERM; echo b; sleep 1000\", grace=1000)",
        "memory(stubborn).open().submit('x')",
        "memory(blocking).open().submit('x')",
    ],
)
def test_what_would_not_end_does_not_keep_it_up(job: str) -> None:
    with program(
        f"""
        async def stubborn(execution, output):
            await output.write("begun\\n")
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        async def blocking(execution, output):
            await output.write("begun\\n")
            await anyio.sleep(0.1)
            say("blocks")
            threading.Event().wait()
        job = begun({job})
        say("ends")
        """
    ) as running:
        assert "ends" in (running.line(), running.line() if "blocking" in job else "")
        ended_at = time.monotonic()
        running.end()
        assert time.monotonic() - ended_at < 5


def test_an_exit_without_a_word_ends_its_jobs() -> None:
    run(
        """
        begun(Hodei().open().submit("echo begun; sleep 1000"))
        os._exit(0)
        """
    )
