"""Hosts of one file that are killed, stopped and continued: real processes, real files."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path

import anyio
import pytest

from hodei_core import Hodei, Job, JobState, Reason
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.local import provider as local_provider
from hodei_core.backends.sqlite import SqliteStore
from hodei_core.clock import SystemClock
from hodei_core.ids import HostId
from hodei_core.ports import CancelRequest, JobFilter, RequestCancel
from hodei_core.runtime import membership
from tests.local.helpers import alive, watching
from tests.sqlite.programs import HostProgram, program, stop_between_commits, until, words

pytestmark = pytest.mark.anyio

LEASE = 3.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the hosts of this process live by the leases of `lease=3` of the program."""
    monkeypatch.setattr(membership, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(membership, "_MARGIN_SECONDS", LEASE / 5)
    monkeypatch.setattr(membership, "_LOOK_SECONDS", LEASE / 10)
    monkeypatch.setattr(local_provider, "MARGIN_SECONDS", LEASE / 5)


@asynccontextmanager
async def opened(file: Path, slots: int = 2) -> AsyncIterator[Hodei]:
    async with Hodei(file, providers=[LocalProvider(slots=slots)]) as hodei:
        with anyio.fail_after(40):
            yield hodei
        await hodei.cancel_jobs()


async def final(hodei: Hodei, number: int = 0) -> Job:
    """Return the job that was submitted as so-manieth, once it is final."""
    job = (await hodei.list_jobs())[-1 - number]
    await hodei.handle(job.id).wait()
    return await hodei.get_job(job.id)


def alone_in(folder: Path) -> str:
    """Return a command that tells its pid, and whether another execution of it lives."""
    return (
        f"cd '{folder}'; for p in $(cat pids 2>/dev/null); do "
        'case "$(cut -d " " -f 3 /proc/$p/stat 2>/dev/null)" in ""|Z) ;; '
        "*) echo overlap >> overlaps;; esac; done; echo $$ >> pids; exec sleep 300"
    )


# Killed


@pytest.mark.parametrize("seed", range(4))
async def test_after_a_kill_at_any_instant_nothing_runs_twice_and_codes_are_real(
    seed: int, file: Path, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    commands = [f"echo {number} >> '{effects}'; exit {number % 5}" for number in range(150)]
    async with program(file, "slots=2", *commands) as host:
        dead = HostId((await host.line("open"))[1])
        await until(lambda: words(effects))
        await anyio.sleep(random.Random(seed).random() * 0.15)
        host.kill()
    began = time.monotonic()
    async with opened(file) as hodei:
        await _nothing_open_of(hodei, dead)
        assert time.monotonic() - began < 2  # a second, and the opening
        with anyio.fail_after(20):
            await hodei.join()
        jobs = {job.id: job for job in await hodei.list_jobs(limit=200)}
        numbers = {job.id: number for number, job in enumerate(reversed(jobs.values()))}
    counts = Counter(map(int, words(effects)))
    assert not [number for number, count in counts.items() if count > 1]
    for job in jobs.values():
        number = numbers[job.id]
        assert len(job.attempts) == 1
        if job.reason is Reason.WORKER_LOST:
            continue
        assert job.exit_code == number % 5, job
        assert counts[number] == 1
        assert (job.state is JobState.SUCCEEDED) == (number % 5 == 0)


async def _nothing_open_of(hodei: Hodei, host_id: HostId) -> None:
    while True:
        open_jobs = await hodei.list_jobs(states={JobState.ASSIGNED, JobState.RUNNING})
        if all(job.attempt.host_id != host_id for job in open_jobs):
            return
        await anyio.sleep(0.005)


async def test_what_exited_while_its_host_was_stopped_is_known_after_the_kill(file: Path) -> None:
    async with program(file, "sleep 0.5; exit 7", "sleep 0.5", "sleep 300", "slots=3") as host:
        await host.line("open")
        guard = await host.guard()
        await _runs(guard, 3)
        os.kill(host.pid, signal.SIGSTOP)
        await _runs(guard, 1)
        await anyio.sleep(0.1)
        killed_at = SystemClock().now()
        host.kill()
    async with opened(file) as hodei:
        seven, zero, lost = [await final(hodei, number) for number in range(3)]
    assert (seven.state, seven.reason, seven.exit_code) == (JobState.FAILED, Reason.EXIT_CODE, 7)
    assert (zero.state, zero.exit_code) == (JobState.SUCCEEDED, 0)
    for ended in (seven, zero):
        assert ended.finished_at is not None
        assert ended.finished_at < killed_at, "it counts until it ended, and not until it was found"
    assert (lost.reason, lost.exit_code) == (Reason.WORKER_LOST, None)


async def test_what_fails_of_the_death_of_its_host_has_no_exit_of_its_own(file: Path) -> None:
    commands = ["yes", "while :; do echo line || exit 5; done"]
    for _ in range(3):
        file.unlink(missing_ok=True)
        async with program(file, *commands) as host:
            guard = await host.guard()
            await _runs(guard, 2)
            host.kill()
        async with opened(file) as hodei:
            jobs = [await final(hodei, number) for number in range(2)]
        assert [job.reason for job in jobs] == [Reason.WORKER_LOST] * 2


async def test_the_work_of_a_killed_host_is_taken_at_once_by_one_that_is_there(
    file: Path, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    async with (
        program(file, "attempts=2", alone_in(tmp_path)) as first,
        program(file) as second,
    ):
        await until(lambda: len(words(pids)) == 1)
        guard = await first.guard()
        first.kill()
        began = time.monotonic()
        await until(lambda: len(words(pids)) == 2)
        assert time.monotonic() - began < membership.LEASE_SECONDS / 2
        assert not alive(guard)
        assert not (tmp_path / "overlaps").exists()
        second.kill()


async def test_a_fork_of_a_killed_host_that_lives_on_delays_nothing(file: Path) -> None:
    async with program(file, "fork=1", "sleep 300") as host:
        fork = int((await host.line("fork"))[1])
        guard = await host.guard()
        await _runs(guard, 1)
        with watching(fork):
            host.kill()
            began = time.monotonic()
            async with opened(file) as hodei:
                job = await final(hodei)
                assert time.monotonic() - began < membership.LEASE_SECONDS / 2
            assert job.reason is Reason.WORKER_LOST
            assert alive(fork)


@pytest.mark.parametrize("how", ["as it was", "by a link", "without its files", "garbled"])
async def test_what_a_host_and_a_guard_killed_together_leave_is_ended_before_the_retry(
    file: Path, tmp_path: Path, how: str
) -> None:
    pids = tmp_path / "pids"
    folder = file.with_name(file.name + "-hosts")
    name = file
    if how == "by a link":
        name = tmp_path / "link.db"
        name.symlink_to(file)
    async with program(file, "attempts=2", alone_in(tmp_path)) as host:
        guard = await host.guard()
        await until(lambda: words(pids))
        with watching(guard, int(words(pids)[0])) as (guard_process, job):
            os.kill(host.pid, signal.SIGSTOP)
            guard_process.signal(signal.SIGKILL)
            await guard_process.gone()
            host.kill()
            assert alive(job.pid)
            if how == "without its files":
                shutil.rmtree(folder)
            if how == "garbled":
                for journal in folder.glob("*.journal"):
                    journal.write_bytes(b"")
            async with opened(name):
                await until(lambda: len(words(pids)) == 2)
                await job.gone(0.1)
    assert not (tmp_path / "overlaps").exists()


async def test_a_host_whose_files_were_deleted_goes_on_after_the_loss_of_its_guard(
    file: Path,
) -> None:
    async with opened(file) as hodei:
        assert (await hodei.run("true")).ok
        shutil.rmtree(file.with_name(file.name + "-hosts"))
        lost = await hodei.run("kill -9 $PPID; sleep 60")
        assert lost.reason is Reason.WORKER_LOST
        assert (await hodei.run("true")).ok


async def test_a_cancel_that_was_stored_holds_though_the_host_is_dead(file: Path) -> None:
    async with program(file, "attempts=5", "sleep 300") as host:
        guard = await host.guard()
        await _runs(guard, 1)
        host.kill()
    store = SqliteStore(file)
    await store.open(HostId("client"))
    try:
        (job,) = await store.jobs.select(JobFilter(), limit=2)
        request = CancelRequest(at=datetime.now(timezone.utc), reason="enough")
        await store.apply([RequestCancel((job.id,), request)])
    finally:
        await store.close()
    async with opened(file) as hodei:
        job = await final(hodei)
    assert (job.state, job.message, len(job.attempts)) == (JobState.CANCELLED, "enough", 1)


async def test_hosts_leave_no_files_behind(file: Path) -> None:
    folder = file.with_name(file.name + "-hosts")
    async with program(file, "true") as host:
        await host.line("final")
        assert len(os.listdir(folder)) == 2
        host.kill()
    async with opened(file):
        await until(lambda: len(os.listdir(folder)) == 2 and not _of(host, folder))
    assert os.listdir(folder) == []


def _of(host: HostProgram, folder: Path) -> list[str]:
    (host_id,) = [line[1] for line in host.seen() if line[0] == "open"]
    return [name for name in os.listdir(folder) if name.startswith(host_id)]


# Stopped


@pytest.mark.slow
async def test_a_host_stopped_past_its_lease_runs_nothing_while_another_does(
    file: Path, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    lease = f"lease={LEASE}"
    async with program(file, lease, "attempts=5", alone_in(tmp_path)) as first:
        await until(lambda: len(words(pids)) == 1)
        guard = await first.guard()
        async with program(file, lease) as second:
            await _knows_of_another(file, first)
            with watching(int(words(pids)[0])) as (job,):
                stop_between_commits(first.pid, file)
                await until(lambda: len(words(pids)) == 2)
                await job.gone(0.01)
                assert not alive(guard)
            os.kill(first.pid, signal.SIGCONT)
            again = await first.line("again")
            assert again[1] != (await first.line("open"))[1]
            assert not (tmp_path / "overlaps").exists()
            store = SqliteStore(file)
            await store.open(HostId("client"))
            try:
                (stored,) = await store.jobs.select(JobFilter(), limit=2)
                assert [a.reason for a in stored.attempts] == [Reason.WORKER_LOST, None]
                assert stored.attempt.host_id == (await second.line("open"))[1]
                assert len(await store.hosts.select()) == 2
            finally:
                await store.close()
            assert len(words(pids)) == 2


async def _knows_of_another(file: Path, host: HostProgram) -> None:
    """Return when a host must have told its guard of a lease: it has looked at the others."""
    del file, host
    await anyio.sleep(LEASE / 10 * 3)


@pytest.mark.slow
async def test_a_host_stopped_alone_loses_nothing(file: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with program(file, "lease=1", alone_in(tmp_path)) as host:
        await until(lambda: words(pids))
        os.kill(host.pid, signal.SIGSTOP)
        await anyio.sleep(2.5)
        assert alive(int(words(pids)[0]))
        os.kill(host.pid, signal.SIGCONT)
        await anyio.sleep(1)
        assert alive(int(words(pids)[0]))
        assert [line[0] for line in host.seen() if line[0] in ("open", "again")] == ["open"]


@pytest.mark.slow
async def test_a_host_that_comes_later_waits_for_the_guard_of_a_stopped_one_and_says_so(
    file: Path, tmp_path: Path, short_leases: None
) -> None:
    pids = tmp_path / "pids"
    async with program(file, f"lease={LEASE}", "attempts=5", alone_in(tmp_path)) as first:
        await until(lambda: words(pids))
        stop_between_commits(first.pid, file)
        async with opened(file) as hodei:
            (job,) = await hodei.list_jobs()
            with anyio.fail_after(20):
                handle = hodei.handle(job.id)
                while "still runs" not in (await handle.explain()).summary:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            assert len(words(pids)) == 1
            os.kill(first.pid, signal.SIGCONT)
            await until(lambda: len(words(pids)) == 2)
            assert not (tmp_path / "overlaps").exists()


# Elsewhere


def _may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _may_unshare(), reason="no right to make a pid namespace")
async def test_hosts_in_two_pid_namespaces_see_each_other_live_and_die(
    file: Path, tmp_path: Path
) -> None:
    pids = tmp_path / "runs"
    command = f"echo run >> '{pids}'; exec sleep 300"
    prefix = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    async with (
        program(file, "attempts=5", command, prefix=prefix) as first,
        program(file, prefix=prefix),
    ):
        await until(lambda: len(words(pids)) == 1)
        await anyio.sleep(0.5)
        assert len(words(pids)) == 1
        first.kill()
        began = time.monotonic()
        await until(lambda: len(words(pids)) == 2)
        assert time.monotonic() - began < membership.LEASE_SECONDS / 2


async def _runs(guard: int, count: int) -> None:
    """Return when a guard has so many jobs."""
    await until(lambda: len(_children(guard)) == count)


def _children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []
