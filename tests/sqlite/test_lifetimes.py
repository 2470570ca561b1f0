"""What a host program does to a store: forks, loops that end, threads, trio, many openings."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import anyio
import pytest
import trio

from hodei_core import ForkedError, Hodei
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ids import HostId
from hodei_core.testing.contracts.driver import StoreDriver
from tests.sqlite.helpers import LIMIT, look, opened, python

FLAGS = ["-W", "error"]


# Forks

FORK = """
import asyncio, os, sys
from hodei_core import ForkedError, Hodei

async def refused(call):
    try:
        await call
    except ForkedError:
        return
    raise AssertionError(f"{call} was answered")

async def in_child(hodei, job):
    store = hodei._host.store
    for call in (
        hodei.submit("true"), hodei.submit_many(["true"]), hodei.run("true"),
        hodei.get_job(job.id), hodei.list_jobs(), hodei.list_workers(), hodei.stats(),
        hodei.join(), hodei.drain(), hodei.resume(), hodei.cancel_jobs(), hodei.aclose(),
        hodei.prune(older_than=1), hodei.open(), job.wait(), job.cancel(), job.snapshot(),
        job.output(), job.explain(), job.retry(), store.apply([]), store.jobs.get(job.id),
        store.open("host"), store.close(), store.hosts.others_wrote(),
    ):
        await refused(call)

async def main(path):
    async with Hodei(path) as hodei:
        job = await hodei.submit("true")
        await job.wait()
        busy = [asyncio.ensure_future(hodei.submit("true")) for _ in range(50)]
        await asyncio.sleep(0)
        for _ in range(5):
            pid = os.fork()
            if not pid:
                asyncio.events._set_running_loop(None)
                asyncio.run(in_child(hodei, job))
                os._exit(7)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7, status
            assert (await hodei.run("exit 3")).exit_code == 3
        await asyncio.gather(*busy)
        await hodei.join()
        assert len(await hodei.list_jobs(limit=1000)) == 56
    print("done")

asyncio.run(main(sys.argv[1]))
"""


def test_a_forked_child_is_refused_and_ends_without_touching_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    done = python(FORK, path)
    assert done.returncode == 0, done
    assert "done" in done.stdout
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()


ORPHAN = """
import atexit, gc, os, sys, time
from hodei_core import ForkedError
from hodei_core.blocking import Hodei

atexit.register(lambda: os.write(1, b"ending\\n"))
hodei = Hodei(sys.argv[1], providers=[]).open()
for _ in range(50):
    hodei.submit("true")
if not os.fork():
    os.read(0, 1)  # until the parent is dead
    try:
        hodei.submit("true")
    except ForkedError:
        os.write(1, b"refused\\n")
    del hodei
    gc.collect()
    sys.exit()  # all that is left is finalised
os.write(1, b"forked\\n")
time.sleep(60)
"""


def test_a_child_that_outlives_its_parent_does_not_write_back_the_log(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ORPHAN), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"forked\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        before = look(tmp_path)
        assert before["jobs.db-wal"][0]
        parent.stdin.write(b"x")
        parent.stdin.flush()
        assert parent.stdout.read() == b"refused\nending\n"
    assert look(tmp_path) == before


def test_a_store_of_the_parent_is_refused_in_a_child_of_multiprocessing(tmp_path: Path) -> None:
    script = """
    import asyncio, multiprocessing, sys
    from hodei_core import ForkedError, Hodei

    def work(hodei, results):
        async def main():
            try:
                await hodei.list_jobs()
            except ForkedError as error:
                results.put(str(error))
        asyncio.run(main())

    async def main(path):
        async with Hodei(path, providers=[]) as hodei:
            context = multiprocessing.get_context("fork")
            results = context.SimpleQueue()
            child = context.Process(target=work, args=(hodei, results))
            child.start()
            print(await asyncio.to_thread(results.get))
            await asyncio.to_thread(child.join)
            assert child.exitcode == 0
            await hodei.submit("true")

    asyncio.run(main(sys.argv[1]))
    """
    done = python(script, tmp_path / "jobs.db")
    assert done.returncode == 0, done
    assert "parent process" in done.stdout


# Loops and threads

UNCLOSED = """
import asyncio, sys, threading
from hodei_core import Hodei

async def main(path, how, command):
    hodei = await Hodei(path).open()
    job = await hodei.submit(command)
    if how == "running":
        async for entry in job.logs():
            break
    sys.hodei = hodei if how != "dropped" else None
    assert [t.name for t in threading.enumerate() if not t.daemon] == ["MainThread"]

asyncio.run(main(*sys.argv[1:]))
print("ended")
"""


@pytest.mark.parametrize(
    ("how", "command"),
    [("kept", "true"), ("dropped", "true"), ("running", "echo on; exec sleep 60")],
)
def test_a_program_that_never_closes_ends_within_five_seconds(
    tmp_path: Path, how: str, command: str
) -> None:
    began = time.monotonic()
    done = python(UNCLOSED, tmp_path / "jobs.db", how, command, flags=FLAGS)
    assert time.monotonic() - began < 5 + 5  # its own start on a busy machine
    assert done.returncode == 0, done
    assert done.stdout == "ended\n"
    assert done.stderr == ""


BARE = """
import asyncio, sys
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.ids import HostId

async def main(path):
    store = sys.store = SqliteStore(path)
    await store.open(HostId("host"))
    task = sys.task = asyncio.ensure_future(store.hosts.others_wrote())
    await asyncio.sleep(0)
    await store.jobs.counts()

asyncio.run(main(sys.argv[1]))
print("ended")
"""


DELETED = """
import asyncio, os, sys
from hodei_core import Hodei, StoreInvalidError

async def main(path):
    try:
        async with Hodei(path) as hodei:
            await hodei.run("true")
            os.remove(path)
            await hodei.submit("true")
    except StoreInvalidError:
        print("refused")

asyncio.run(main(sys.argv[1]))
"""


def test_a_program_whose_file_was_deleted_ends_without_a_warning(tmp_path: Path) -> None:
    """It leaves the file open on purpose: SQLite would delete by name what is another's by now."""
    program = [sys.executable, *FLAGS, "-c", DELETED, str(tmp_path / "jobs.db")]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (ended.returncode, ended.stdout) == (0, "refused\n"), ended.stderr
    assert "Warning" not in ended.stderr


def test_a_bare_store_that_is_never_closed_keeps_no_program_alive(tmp_path: Path) -> None:
    done = python(BARE, tmp_path / "jobs.db")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", ""), done


async def test_a_call_from_another_thread_or_loop_is_a_clear_error(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def elsewhere(hodei: Hodei) -> None:
        for call in (hodei.list_jobs, hodei.stats, lambda: hodei.submit("true"), hodei.aclose):
            try:
                asyncio.run(call())
            except RuntimeError as error:
                errors.append(error)

    async with Hodei(tmp_path / "jobs.db", providers=[]) as hodei:
        thread = threading.Thread(target=elsewhere, args=(hodei,))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        assert len(errors) == 4
        assert all("another event loop" in str(error) for error in errors)
        await hodei.submit("true")


def test_under_trio_it_says_that_it_needs_asyncio(tmp_path: Path) -> None:
    async def main() -> None:
        async with Hodei(tmp_path / "jobs.db", providers=[]):
            raise AssertionError("it was opened")

    with pytest.raises(RuntimeError, match="SqliteStore needs asyncio"):
        trio.run(main)
    assert list(tmp_path.iterdir()) == []


# Many openings


def test_processes_that_open_a_new_file_together_all_open_it(tmp_path: Path) -> None:
    script = """
    import asyncio, sys
    from hodei_core import Hodei

    async def main():
        sys.stdin.readline()
        async with Hodei(sys.argv[1], providers=[]) as hodei:
            await hodei.submit("true")

    asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "jobs.db")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(8)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=LIMIT)
    assert [process.returncode for process in processes] == [0] * 8
    connection = sqlite3.connect(tmp_path / "jobs.db")
    assert connection.execute("select count(*) from jobs").fetchone() == (8,)
    connection.close()


async def test_after_200_openings_nothing_is_left(tmp_path: Path) -> None:
    def left() -> tuple[int, int, int]:
        gc.collect()
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            threading.active_count(),
            len(asyncio.all_tasks()),
        )

    path = tmp_path / "jobs.db"
    (tmp_path / "none.db").write_bytes(os.urandom(2_000))
    with anyio.fail_after(2 * LIMIT):
        for number in range(200):
            async with Hodei(path, providers=[]) as hodei:
                await hodei.submit("true")
            if not number % 10:
                with pytest.raises(RuntimeError):
                    async with opened(tmp_path / "none.db"):
                        pass
            if number == 5:
                early = left()
        # What was ending at round 5 was counted then: there may be less by now, and never more.
        while any(now > then for now, then in zip(left(), early, strict=True)):  # noqa: ASYNC110
            await anyio.sleep(0.01)
    async with opened(path) as driver:
        assert await driver.total() == 200


async def test_the_event_loop_is_never_held_for_long(tmp_path: Path) -> None:
    """A locked file and a disk that is slow cost the caller, and nobody else."""
    store = SqliteStore(tmp_path / "jobs.db")
    gaps: list[float] = []

    async def measure() -> None:
        last = time.monotonic()
        while True:
            await anyio.sleep(0)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(measure)
        held = threading.Event()
        release = threading.Event()

        def hold() -> None:
            connection = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
            connection.execute("begin exclusive")
            held.set()
            release.wait(LIMIT)
            connection.close()

        thread = threading.Thread(target=hold)
        thread.start()
        await anyio.to_thread.run_sync(held.wait)
        tasks.start_soon(_release_soon, release)
        await store.open(HostId("host"))  # waits until it is let go
        await StoreDriver(store).add("one")
        await store.close()
        thread.join()
        tasks.cancel_scope.cancel()
    assert max(gaps) < 0.25, max(gaps)


async def _release_soon(release: threading.Event) -> None:
    await anyio.sleep(0.6)
    release.set()


async def test_close_in_a_child_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        store = driver.store
        assert isinstance(store, SqliteStore)
        store._pid += 1
        with pytest.raises(ForkedError, match="parent process"):
            await store.close()
        store._pid -= 1
