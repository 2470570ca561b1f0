"""What a guard writes down, and what that proves to a host that comes later."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import anyio
import attrs
import pytest

from hodei_core.backends.local import LocalProvider, guard
from hodei_core.backends.local.journal import GuardAliveError, read_journal
from hodei_core.backends.local.session import LocalSession
from hodei_core.backends.local.sweep import Lost
from hodei_core.clock import SystemClock
from hodei_core.executions import Execution
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.jobs import Attempt
from hodei_core.ports import Evidence, EvidenceKind, ProviderHost, StartFailedError
from tests.local.helpers import IDS, Recorder, execution, watching

pytestmark = pytest.mark.anyio

WORKER = WorkerId("lo cal/é-1")
JOB = IDS.job_id()


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LocalProvider]:
    """Open a provider of a host of its own that keeps journals in a directory."""
    provider = LocalProvider()
    await provider.open(ProviderHost(host_id=IDS.host_id(), clock=SystemClock(), directory=folder))
    try:
        yield provider
    finally:
        await provider.close()


@asynccontextmanager
async def session(folder: Path) -> AsyncIterator[LocalSession]:
    """Serve a worker that keeps a journal."""
    async with opened(folder) as provider, anyio.create_task_group() as tasks:
        made = await provider.provision(WORKER)
        assert isinstance(made, LocalSession)

        async def serve() -> None:
            with anyio.CancelScope(shield=True):
                await _until_lost(made)

        tasks.start_soon(serve)
        try:
            with anyio.fail_after(20):
                yield made
        finally:
            await made.terminate()


async def _until_lost(made: LocalSession) -> None:
    try:
        await made.run()
    except Exception:
        assert made.ended


def attempt(number: int = 1, *, worker_id: WorkerId = WORKER, ago: float = 0) -> Attempt:
    at = datetime.now(timezone.utc) - timedelta(seconds=ago)
    return Attempt(
        number=number,
        worker_id=worker_id,
        provider="local",
        assigned_at=at,
        host_id=HostId("dead"),
    )


async def evidence(folder: Path, job: Execution | JobId, number: int = 1) -> Evidence:
    """Return what another host finds of an attempt, once it has discarded the worker."""
    job_id = job if isinstance(job, str) else job.job_id
    async with opened(folder) as other:
        await other.discard(WORKER)
        return await other.evidence(attempt(number), job_id)


def journal_of(folder: Path) -> Path:
    (path,) = folder.glob("*.journal")
    return path


async def test_a_start_is_written_down_before_the_program_runs(tmp_path: Path) -> None:
    async with session(tmp_path) as here:
        path = journal_of(tmp_path)
        for _ in range(20):
            # The shell itself opens its input: the line is there before the job's first step.
            job = execution(f"while read -r line; do echo $line; done < '{path}'")
            output = Recorder()
            await here.execute(job, output)
            assert f"start {job.job_id} 1".encode() in output.stdout


async def test_a_journal_begins_with_what_makes_it_a_proof(tmp_path: Path) -> None:
    async with session(tmp_path) as here:
        head = journal_of(tmp_path).read_text().split("\n")[0].split(" ")
        start = Path(f"/proc/{here.guard_pid}/stat").read_text().rpartition(")")[2].split()[19]
        assert head[2] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert head[3] == f"pid:[{Path('/proc/self/ns/pid').stat().st_ino}]"
        assert head[4] == start


@pytest.mark.parametrize("code", [0, 1, 7, 255])
async def test_a_real_exit_is_found_later(code: int, tmp_path: Path) -> None:
    job = execution(f"exit {code}")
    async with session(tmp_path) as here:
        await here.execute(job, Recorder())
        await _written(tmp_path, f"exit {job.job_id}")
    found = await evidence(tmp_path, job)
    assert found.kind is EvidenceKind.EXITED
    assert found.exit is not None
    assert found.exit.code == code
    assert found.exit.usage is not None


async def test_an_attempt_that_was_never_asked_for_was_never_started(tmp_path: Path) -> None:
    job = execution("true")
    async with session(tmp_path) as here:
        await here.execute(job, Recorder())
    assert (await evidence(tmp_path, JOB)).kind is EvidenceKind.NEVER_STARTED
    assert (await evidence(tmp_path, job, 2)).kind is EvidenceKind.NEVER_STARTED


async def test_an_attempt_whose_start_failed_was_never_started(tmp_path: Path) -> None:
    job = execution(["/no/such/program"])
    async with session(tmp_path) as here:
        with pytest.raises(StartFailedError):
            await here.execute(job, Recorder())
    assert (await evidence(tmp_path, job)).kind is EvidenceKind.NEVER_STARTED


async def test_nothing_is_certain_of_what_ran_when_its_guard_ended(tmp_path: Path) -> None:
    job = execution("sleep 300")
    output = Recorder()
    async with session(tmp_path) as here, anyio.create_task_group() as tasks:
        tasks.start_soon(_lost, here, job, output)
        with anyio.fail_after(10):
            await output.called("started")
        await here.terminate()
    assert (await evidence(tmp_path, job)).kind is EvidenceKind.UNKNOWN


async def _lost(here: LocalSession, job: Execution, output: Recorder) -> None:
    with pytest.raises(Exception, match="worker"):
        await here.execute(job, output)


async def test_the_exit_of_an_attempt_that_was_being_ended_proves_nothing(tmp_path: Path) -> None:
    job = execution("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
    output = Recorder()
    async with session(tmp_path) as here, anyio.create_task_group() as tasks:
        tasks.start_soon(here.execute, job, output)
        with anyio.fail_after(10):
            await output.saw(b"ready")
        tasks.cancel_scope.cancel()
    await _written(tmp_path, f"exit {job.job_id}")
    assert (await evidence(tmp_path, job)).kind is EvidenceKind.UNKNOWN


async def test_after_another_boot_nothing_is_certain(tmp_path: Path) -> None:
    job = execution("true")
    async with session(tmp_path) as here:
        await here.execute(job, Recorder())
    path = journal_of(tmp_path)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path.write_text(path.read_text().replace(boot, "another"))
    assert (await evidence(tmp_path, job)).kind is EvidenceKind.UNKNOWN
    assert (await evidence(tmp_path, JOB)).kind is EvidenceKind.UNKNOWN


async def test_without_its_journal_nothing_is_certain(tmp_path: Path) -> None:
    assert (await evidence(tmp_path, JOB)).kind is EvidenceKind.UNKNOWN


async def test_a_line_that_was_cut_off_is_none(tmp_path: Path) -> None:
    async with session(tmp_path):
        pass
    with journal_of(tmp_path).open("a") as file:
        file.write(f"start {JOB} 1 17")
    assert (await evidence(tmp_path, JOB)).kind is EvidenceKind.NEVER_STARTED


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"\xff\xfe \x00 1",
        b"start %s",
        b"start %s 1 soon",
        b"exit %s 1",
        b"exit %s 1 0 0.1 5 0 1e300",
        b"exit %s 1 many 0.1 5 0 1700000000",
        b"exit %s 1 99999999999999999999 0.1 5 0 1700000000",
        b"failed %s 1 2",
    ],
)
async def test_beside_a_line_that_cannot_be_read_nothing_is_certain(
    line: bytes, tmp_path: Path
) -> None:
    async with session(tmp_path):
        pass
    with journal_of(tmp_path).open("ab") as file:
        file.write(line.replace(b"%s", JOB.encode()) + b"\n")
    assert (await evidence(tmp_path, JOB)).kind is EvidenceKind.UNKNOWN


@pytest.mark.parametrize("head", ["", "journal", "journal 1 boot", "journal 1 b n now h 0", "\0"])
async def test_a_journal_without_its_head_is_none(head: str, tmp_path: Path) -> None:
    job = execution("true")
    async with session(tmp_path) as here:
        await here.execute(job, Recorder())
        await _written(tmp_path, f"exit {job.job_id}")
    journal = journal_of(tmp_path)
    _, _, rest = journal.read_text().partition("\n")
    journal.write_text(f"{head}\n{rest}")
    assert (await evidence(tmp_path, job)).kind is EvidenceKind.UNKNOWN


async def test_without_journals_what_a_host_left_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def end_jobs(lost: Lost, _seconds: float) -> bool:
        looks.append(lost.host_id)
        return True

    monkeypatch.setattr("hodei_core.backends.local.remains.end_jobs", end_jobs)
    async with opened(tmp_path) as other:
        for number in (1, 2, 3):
            found = await other.evidence(attempt(number), JOB)
            assert found.kind is EvidenceKind.UNKNOWN
    assert looks == ["dead"]


async def test_a_worker_is_not_gone_before_its_guard_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hodei_core.backends.local.remains._PATIENCE_SECONDS", 0.05)
    async with session(tmp_path) as here, opened(tmp_path) as other:
        with pytest.raises(RuntimeError, match="still runs"):
            await other.discard(WORKER)
        with pytest.raises(RuntimeError, match="still runs"):
            await other.evidence(attempt(), JOB)
        with watching(here.guard_pid) as (guard_process,):
            guard_process.signal(signal.SIGKILL)
            monkeypatch.undo()
            await other.discard(WORKER)


async def test_what_a_killed_guard_has_left_is_ended_by_another_host(tmp_path: Path) -> None:
    provider = LocalProvider()
    await provider.open(
        ProviderHost(host_id=IDS.host_id(), clock=SystemClock(), directory=tmp_path)
    )
    made = await provider.provision(WORKER)
    assert isinstance(made, LocalSession)
    output = Recorder()
    # Nobody serves the session: as if its host were dead, too.
    output_file = tmp_path / "pid"
    output_file.touch()
    made._attempts.start(execution(f"echo $$ > '{output_file}'; exec sleep 300"), output, -1)
    with anyio.fail_after(10):
        while not (said := output_file.read_text().strip()):  # noqa: ASYNC110 - a file
            await anyio.sleep(0.01)
    pid = int(said)
    with watching(pid, made.guard_pid) as (job, guard_process):
        guard_process.signal(signal.SIGKILL)
        await guard_process.gone()
        async with opened(tmp_path) as other:
            await other.discard(WORKER)
        await job.gone(0.1)
    await provider.close()


async def test_the_jobs_of_a_live_host_are_not_swept(tmp_path: Path) -> None:
    async with session(tmp_path) as here:
        output = Recorder()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(here.execute, execution("echo a; exec sleep 300"), output)
            await output.saw(b"a")
            old = tmp_path / "old-1.journal"
            old.write_text(journal_of(tmp_path).read_text())
            provider = LocalProvider()
            await provider.open(
                ProviderHost(host_id=HostId(here._host_id), clock=SystemClock(), directory=tmp_path)
            )
            await provider.discard(WorkerId("old-1"))
            assert "finish stdout" not in output.calls
            tasks.cancel_scope.cancel()
        old.unlink()


async def _written(folder: Path, text: str) -> None:
    with anyio.fail_after(5):
        while text not in journal_of(folder).read_text():  # noqa: ASYNC110 - a file
            await anyio.sleep(0.01)


# A journal that is rewritten


@attrs.define
class Ran:
    """A guard's journal, written as a guard does."""

    journal: guard.Journal
    running: list[guard.Job]

    def start(self, job_id: str, at: float) -> guard.Job:
        job = guard.Job(1, job_id.encode(), b"1", [])
        self.journal.make_room(self.running)
        assert self.journal.start(job)
        job.since = self.journal.latest = at
        self.running.append(job)
        return job

    def exit(self, job: guard.Job, code: int) -> None:
        self.running.remove(job)
        self.journal.append(b"exit %s %d 0.1 100 0 1.0\n" % (job.key, code << 8))


async def test_a_rewritten_journal_keeps_what_runs_and_proves_what_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_JOURNAL", 8192)
    path = tmp_path / "w.journal"
    ran = Ran(guard.Journal(bytes(path), b"host"), [])
    now = datetime.now(timezone.utc).timestamp()
    ran.start("long", now - 1000)
    largest = 0
    for number in range(1000):
        ran.exit(ran.start(f"job-{number}", now - 999 + number), number % 7)
        largest = max(largest, path.stat().st_size)
    assert largest < 8192 + 200
    assert path.stat().st_size < 8192 + 200
    os.close(ran.journal.fd)
    found = read_journal(path)
    assert found is not None
    assert not list(tmp_path.glob("*.new"))

    def kind(job_id: str, ago: float) -> EvidenceKind:
        return found.evidence(attempt(ago=ago), JobId(job_id)).kind

    assert kind("long", 1000) is EvidenceKind.UNKNOWN
    assert found.unfinished == {"long"}
    assert kind("job-999", 0) is EvidenceKind.EXITED
    assert kind("job-0", 999) is EvidenceKind.UNKNOWN  # its lines are gone
    assert kind("other", 990) is EvidenceKind.UNKNOWN  # so were its, for all that is known
    assert kind("other", 0) is EvidenceKind.NEVER_STARTED


async def test_a_journal_that_is_rewritten_stays_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_JOURNAL", 1024)
    path = tmp_path / "w.journal"
    ran = Ran(guard.Journal(bytes(path), b"host"), [])
    files = set()  # two of them in turn, where a number is given anew as soon as it is free
    for number in range(100):
        ran.exit(ran.start(f"job-{number}", 1.0), 0)
        files.add(path.stat().st_ino)
        with pytest.raises(GuardAliveError):
            read_journal(path)
    assert len(files) > 1
    os.close(ran.journal.fd)
    assert read_journal(path) is not None


async def test_a_line_for_which_there_is_no_space_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "w.journal"
    ran = Ran(guard.Journal(bytes(path), b"host"), [])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = path.read_bytes()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
        assert not ran.journal.start(guard.Job(1, b"job", b"1", []))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    os.close(ran.journal.fd)
