"""A file that is locked, full, broken or gone: a named error, and then the host goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from hodei_core import (
    Hodei,
    HodeiError,
    JobHandle,
    StoreBusyError,
    StoreFullError,
    StoreInvalidError,
)
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.memory import MemoryProvider
from hodei_core.backends.sqlite import faults
from hodei_core.executions import Execution
from hodei_core.ports import JobFilter
from hodei_core.testing.contracts.samples import submission
from tests.sqlite.helpers import (
    LIMIT,
    is_alive,
    make,
    needs_root,
    needs_strace,
    opened,
    python,
)
from tests.sqlite.programs import until, words

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
connection.execute("begin exclusive")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def stopped_holder(path: Path, first: str = "select 1") -> Iterator[subprocess.Popen[str]]:
    """Have a process that holds the lock of a file and was stopped by SIGSTOP."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), first],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def go_on(holder: subprocess.Popen[str]) -> None:
    """Have a stopped holder go on, and end."""
    holder.send_signal(signal.SIGCONT)
    holder.communicate()


class Gate:
    """A provider whose jobs run until they are let go."""

    def __init__(self) -> None:
        self.opened = anyio.Event()
        self.begun = anyio.Event()
        self.provider = MemoryProvider(self.run, slots=4)

    async def run(self, _execution: Execution, _output: object) -> int:
        self.begun.set()
        await self.opened.wait()
        return 7


# Locked


async def test_each_call_waits_five_seconds_for_a_locked_file_and_the_host_goes_on(
    tmp_path: Path,
) -> None:
    gate = Gate()
    waits: list[float] = []

    async def submit(hodei: Hodei, later: float) -> None:
        await anyio.sleep(later)
        began = time.monotonic()
        with pytest.raises(StoreBusyError, match=r"jobs\.db"):
            await hodei.submit("true")
        waits.append(time.monotonic() - began)

    with anyio.fail_after(LIMIT):
        async with Hodei(tmp_path / "jobs.db", providers=[gate.provider]) as hodei:
            running = await hodei.submit("true")
            await gate.begun.wait()
            with stopped_holder(tmp_path / "jobs.db") as holder:
                async with anyio.create_task_group() as tasks:
                    for later in (0, 0.1, 1, 3):
                        tasks.start_soon(submit, hodei, later)
                    gate.opened.set()
                    assert len(await hodei.list_jobs()) == 1  # readers wait for nobody
                go_on(holder)
            assert (await running.wait()).exit_code == 7
            assert (await hodei.run("true")).exit_code == 7
            assert len(await hodei.list_jobs()) == 2
    assert len(waits) == 4
    assert all(4.9 < wait < 7 for wait in waits), waits


async def test_a_call_that_waits_for_a_locked_file_goes_on_when_it_is_let_go(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        with stopped_holder(tmp_path / "jobs.db") as holder:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(driver.add, "one")
                await anyio.sleep(0.3)
                go_on(holder)
        assert await driver.total() == 1


async def test_a_locked_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    with stopped_holder(path, "pragma locking_mode = exclusive"):
        with pytest.raises(StoreBusyError, match=r"jobs\.db"):
            async with opened(path):
                pass
    async with opened(path) as driver:
        assert await driver.total() == 2


# Full

FULL = """
import sqlite3, subprocess, sys
from pathlib import Path

import anyio

from hodei_core import Hodei, StoreFullError
from hodei_core.backends.memory import MemoryProvider

folder, size = Path(sys.argv[1]), sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
path = folder / "jobs.db"
let_go, begun = anyio.Event(), anyio.Event()
accepted = []


async def handler(execution, output):
    begun.set()
    await let_go.wait()
    return 7


async def fill(hodei):
    while True:
        try:
            jobs = await hodei.submit_many(["true # " + "x" * 3_000] * 3)
        except StoreFullError as error:
            assert str(path) in str(error), error
            return
        accepted.extend(jobs)


async def main():
    async with Hodei(path, providers=[MemoryProvider(handler, slots=2)]) as hodei:
        if size != "200k":  # that is too little for one job
            accepted.append(await hodei.submit("true"))
            await begun.wait()
        await fill(hodei)
        assert len(await hodei.list_jobs(limit=10_000)) == len(accepted)
        with (folder / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 512):
                    pass
            except OSError:
                pass
        let_go.set()
        for job in accepted[:1]:
            with anyio.move_on_after(1):
                await job.wait()
                raise AssertionError("the outcome was written though there was no space")
        await fill(hodei)
        assert len(await hodei.list_jobs(limit=10_000)) == len(accepted)
        subprocess.run(["mount", "-o", "remount,size=16m", folder], check=True)
        while True:
            try:
                accepted.append(await hodei.submit("true"))
                break
            except StoreFullError:
                await anyio.sleep(0.1)
        for job in accepted:
            assert (await job.wait()).exit_code == 7
        assert len(await hodei.list_jobs(limit=10_000)) == len(accepted)
    print(len(accepted))


anyio.run(main)
print(*sqlite3.connect(path).execute("pragma integrity_check").fetchone())
"""


@needs_root
@pytest.mark.parametrize("size", ["200k", "500k"])
def test_a_full_disk_refuses_jobs_and_when_it_is_enlarged_the_host_goes_on(
    tmp_path: Path, size: str
) -> None:
    done = python(FULL, tmp_path, size, before=["unshare", "-m"])
    assert done.returncode == 0, done
    accepted, verdict = done.stdout.split()
    assert int(accepted) >= (1 if size == "200k" else 5)
    assert verdict == "ok"


# Broken


WRITE = """
import asyncio, sys
from pathlib import Path
from hodei_core import HodeiError
from hodei_core.testing.contracts.samples import submission
from tests.sqlite.helpers import opened

async def main(path):
    known, errors = [], set()
    async with opened(path) as driver:
        for number in range(12):
            try:
                await driver.accept(submission(f"job-{number}", command="x" * 3000))
            except HodeiError as error:
                errors.add(type(error).__name__)
                assert await driver.get(f"job-{number}") is None
            else:
                known.append(f"job-{number}")
                assert await driver.get(f"job-{number}") is not None
    print(*sorted(errors))
    print(*known)

asyncio.run(main(Path(sys.argv[1])))
"""


@needs_strace
@pytest.mark.parametrize(
    ("call", "error", "raised"),
    [
        ("pwrite64", "ENOSPC", "StoreFullError"),
        ("pwrite64", "EIO", "StoreInvalidError"),
        ("fdatasync", "EIO", "StoreInvalidError"),
    ],
)
@pytest.mark.parametrize("number", range(5))
async def test_what_a_failed_write_refused_is_not_in_and_what_it_accepted_is(
    tmp_path: Path, call: str, error: str, raised: str, number: int
) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    # Opening makes eight writes, and a job some twenty.
    first = 1 + number if call == "fdatasync" else 9 + 6 * number
    # Space that lacks for a moment only is found: the log is written back.
    when = (
        f"{first}..{first + 60}"
        if error == "ENOSPC"
        else f"{first}+{7 if call == 'fdatasync' else 37}"
    )
    inject = f"inject={call}:error={error}:when={when}"
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject]
    done = python(WRITE, path, before=strace)
    assert done.returncode == 0, done
    errors, accepted = (line.split() for line in done.stdout.splitlines())
    assert raised in errors
    assert len(accepted) < 12
    async with opened(path) as driver:
        jobs = await driver.store.jobs.select(JobFilter(), limit=None)
        assert {job.id for job in jobs} == {"one", "two", *accepted}
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()


@needs_strace
async def test_space_that_lacks_for_the_log_alone_is_found_in_it(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    await make(path)
    inject = "inject=pwrite64:error=ENOSPC:when=40"
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=pwrite64", "-e", inject]
    errors, accepted = python(WRITE, path, before=strace).stdout.splitlines()
    assert errors == ""
    assert len(accepted.split()) == 12


CRASH = """
import asyncio, os, signal, sys
from pathlib import Path
from hodei_core import HodeiError
from hodei_core.testing.contracts.samples import submission
from tests.sqlite.helpers import opened

async def main(path):
    async with opened(path) as driver:
        for number in range(9):
            try:
                await driver.accept(submission(f"job-{number}"))
            except HodeiError:
                print(f"job-{number}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(Path(sys.argv[1])))
"""


@needs_strace
@pytest.mark.parametrize("number", [1, 3, 5])
async def test_what_was_refused_is_not_in_after_a_crash_either(tmp_path: Path, number: int) -> None:
    """All of it had been written, and the call to have it on the disk failed."""
    path = tmp_path / "jobs.db"
    await make(path)
    inject = f"inject=fdatasync:error=EIO:when={number}"
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fdatasync", "-e", inject]
    refused = python(CRASH, path, before=strace).stdout.split()
    assert len(refused) == 1
    async with opened(path) as driver:
        jobs = await driver.store.jobs.select(JobFilter(), limit=None)
        assert refused[0] not in [job.id for job in jobs]


# Gone


async def test_a_file_that_was_deleted_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    async with opened(path) as driver:
        await driver.add("one")
        path.unlink()
        with pytest.raises(StoreInvalidError, match=r"jobs\.db was deleted or replaced"):
            await driver.accept(submission("two"))
        with pytest.raises(StoreInvalidError, match="deleted or replaced"):
            await driver.get("one")
    assert not path.exists()


@pytest.mark.parametrize("part", ["", "-wal", "-shm"])
async def test_a_file_that_was_replaced_is_refused_and_the_new_one_left_alone(
    tmp_path: Path, part: str
) -> None:
    path, other = tmp_path / "jobs.db", tmp_path / "other.db"
    async with opened(path) as driver:
        await driver.add("one")
        async with opened(other) as another:
            await another.add("of another store")
            for end in ("", "-wal", "-shm") if not part else (part,):
                os.replace(f"{other}{end}", f"{path}{end}")
            with pytest.raises(StoreInvalidError, match="deleted or replaced"):
                await driver.accept(submission("two"))
            before = {end: Path(f"{path}{end}").read_bytes() for end in ("", "-wal", "-shm")}
            await driver.store.close()
            assert {end: Path(f"{path}{end}").read_bytes() for end in before} == before


async def test_whoever_waits_or_reads_is_told_that_the_file_is_gone(tmp_path: Path) -> None:
    path, end = tmp_path / "jobs.db", tmp_path / "end"
    command = f"echo $$; until [ -e {end} ]; do sleep 0.01; done"
    refused: list[str] = []

    async def ask(who: str, call: Awaitable[object]) -> None:
        with pytest.raises(StoreInvalidError, match="deleted or replaced"):
            await call
        refused.append(who)

    async def read(job: JobHandle) -> None:
        async for entry in job.logs():
            pids.append(int(entry.text))
            begun.set()

    pids: list[int] = []
    begun = anyio.Event()
    with anyio.fail_after(LIMIT):
        async with (
            Hodei(path, providers=[LocalProvider(slots=2)]) as hodei,
            Hodei(path, providers=[]) as client,
            anyio.create_task_group() as tasks,
        ):
            job = await hodei.submit(command, grace=1)
            theirs = client.handle(job.id)
            tasks.start_soon(ask, "reads elsewhere", read(theirs))
            await begun.wait()
            tasks.start_soon(ask, "waits", job.wait())
            tasks.start_soon(ask, "waits elsewhere", theirs.wait())
            tasks.start_soon(ask, "joins", client.join())
            tasks.start_soon(ask, "runs", hodei.run(f"echo $$ > {end}.pid; sleep 60", grace=1))
            await until(lambda: words(tmp_path / "end.pid"))
            path.unlink()
            await until(lambda: len(refused) == 5)
            assert is_alive(pids[0])  # what its waiters wait for runs on: the file may come back
            run = int((tmp_path / "end.pid").read_text())
            await until(lambda: not is_alive(run))
            tasks.start_soon(ask, "reads", read(job))  # at once: it cannot even begin
            end.touch()
    assert len(refused) == 6


async def test_a_file_that_comes_back_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    gate = Gate()
    with anyio.fail_after(LIMIT):
        async with Hodei(path, providers=[gate.provider]) as hodei:
            running = await hodei.submit("true")
            await gate.begun.wait()
            path.rename(tmp_path / "away.db")
            gate.opened.set()
            with pytest.raises(StoreInvalidError):
                await hodei.submit("true")
            (tmp_path / "away.db").rename(path)
            assert (await running.wait()).exit_code == 7
            assert (await hodei.run("true")).exit_code == 7


# Names


class Coded(sqlite3.OperationalError):
    """An error as Python 3.11 and newer tell it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.sqlite_errorcode = code


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("database is locked", 5, StoreBusyError),
        ("database is locked", 5 | 2 << 8, StoreBusyError),
        ("database table is locked: jobs", 6, StoreBusyError),
        ("locking protocol", 15, StoreBusyError),
        ("database or disk is full", 13, StoreFullError),
        ("disk I/O error", 10 | 12 << 8, StoreInvalidError),
        ("attempt to write a readonly database", 8, StoreInvalidError),
        ("database disk image is malformed", 11, StoreInvalidError),
        ("file is not a database", 26, StoreInvalidError),
        ("unable to open database file", 14, StoreInvalidError),
        ("no such table: jobs", 1, StoreInvalidError),
    ],
)
def test_errors_are_named_alike_by_code_and_by_text(
    tmp_path: Path, text: str, code: int, kind: type[HodeiError]
) -> None:
    path = tmp_path / "jobs.db"
    by_code = faults.meaning(path, Coded(text, code))
    by_text = faults.meaning(path, sqlite3.OperationalError(text))
    assert type(by_code) is type(by_text) is kind
    assert str(by_code) == str(by_text)
    assert str(path) in str(by_code)
    assert text in str(by_code)
