"""Shows the main job of hodei_core on real input, and what becomes of jobs that go wrong.

Run it:     make demo    (or: python examples/demo.py)

It prints:  seven steps, each with what was expected of it and what came, and a table at the
            end. It takes some 10 seconds, leaves no process behind, and ends with exit code 0
            only if every expectation was met.
"""

import gzip
import hashlib
import io
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import attrs

from hodei_core import Backoff, Hodei, JobResult, JobSpec, LogEntry, Resources, RetryPolicy

ROOT = Path(__file__).resolve().parent.parent
MARK = uuid.uuid4().hex  # in the environment of every job, to find what is left of it
ENV = {"DEMO_MARK": MARK}
LIMIT_SECONDS = 30
IN = "   "


@attrs.define
class Row:
    """One step in the table."""

    title: str
    jobs: int = 0
    ended: str = ""
    seconds: float = 0.0
    failures: list[str] = attrs.field(factory=list)

    def expect(self, condition: bool, text: str) -> None:
        """Print an expectation and whether it was met."""
        print(f"   {'ok ' if condition else 'NOT'} {text}")
        if not condition:
            self.failures.append(text)


ROWS: list[Row] = []


@asynccontextmanager
async def step(title: str) -> AsyncIterator[Row]:
    row = Row(title)
    ROWS.append(row)
    print(f"\n{len(ROWS)}. {title}")
    begun = time.monotonic()
    try:
        yield row
    finally:
        row.seconds = time.monotonic() - begun


def processes(mark: str, program: str | None = None) -> list[int]:
    """Return the processes that carry a mark, all or those that run a program."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
            name = (directory / "comm").read_text().strip()
        except OSError:  # it has ended, or is somebody else's
            continue
        if f"DEMO_MARK={mark}".encode() in environment and program in (None, name):
            found.append(int(directory.name))
    return found


async def until(condition: Callable[[], bool], seconds: float = 10) -> float:
    """Return how long it took until something is so; give up after some seconds."""
    begun = time.monotonic()
    # Nobody tells of what becomes of another's processes.
    while not condition() and time.monotonic() - begun < seconds:  # noqa: ASYNC110
        await anyio.sleep(0.005)
    return time.monotonic() - begun


def show(entry: LogEntry) -> None:
    print(f"   {entry.at.astimezone():%H:%M:%S.%f}"[:-3], f" {entry.text}")


async def two_lines(hodei: Hodei) -> None:
    async with step("A job of two lines, read while it runs") as row:
        job = await hodei.submit("echo 'Final test job'; sleep 2; echo 'Done!'", env=ENV)
        arrived = []
        async for entry in job.logs():
            arrived.append(time.monotonic())
            show(entry)
        result = await job
        row.jobs, row.ended = 1, result.state.name
        row.expect(result.ok and result.stdout == "Final test job\nDone!\n", "both lines came")
        apart = arrived[-1] - arrived[0]
        row.expect(1.9 < apart < 2.5, f"they came {apart:.2f} s apart")


def repository() -> dict[Path, list[str]]:
    """Return the names of the files of this repository, by folder."""
    folders: dict[Path, list[str]] = {ROOT: [p.name for p in ROOT.iterdir() if p.is_file()]}
    for top in ("src", "tests", "examples", "docs", "benchmarks"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                folders.setdefault(path.parent, []).append(path.name)
    return {folder: sorted(names) for folder, names in sorted(folders.items())}


def packing(folder: Path, names: list[str], target: Path) -> str:
    """Return a shell text that compresses the files of a folder into another."""
    words = " ".join(map(shlex.quote, names))
    into = shlex.quote(str(target / str(folder.relative_to(ROOT))))
    return f'mkdir -p {into}; for f in {words}; do gzip -c "./$f" > {into}/"$f".gz || exit; done'


async def checksums(hodei: Hodei, target: Path) -> None:
    async with step("The files of this repository, checksummed and compressed") as row:
        folders = repository()
        specs = []
        for folder, names in folders.items():  # the least urgent first
            spec = JobSpec(packing(folder, names, target), cwd=str(folder), env=ENV, priority=1)
            spec = attrs.evolve(spec, name=str(folder.relative_to(ROOT)))
            checksum = ("sha256sum", "--", *names)
            specs += [spec, attrs.evolve(spec, command=checksum, priority=9)]
        begun = time.monotonic()
        results = [await job for job in await hodei.submit_many(specs)]
        seconds = time.monotonic() - begun

        slots = (await hodei.stats()).slots_total
        files = sum(map(len, folders.values()))
        size = sum((f / n).stat().st_size for f, names in folders.items() for n in names)
        packed = _size_of_all(target)
        print(f"   {files} files in {len(folders)} folders: {size:,} bytes, {packed:,} compressed")
        print(f"   {len(results)} jobs on {slots} slots in {1000 * seconds:.0f} ms")
        for result in [r for r in results if not r.ok]:
            print(f"   {result.name}: {result.state.name} {result.message or result.stderr}")
        row.jobs, row.ended = len(results), "SUCCEEDED"
        row.expect(all(result.ok for result in results), f"{len(results)} jobs succeeded")
        sums = {}
        for result in results[1::2]:
            for line in result.stdout.splitlines():
                sums[ROOT / str(result.name) / line[66:]] = line[:64]
        same = [p for p, digest in sums.items() if _digest(p.read_bytes()) == digest]
        row.expect(len(same) == files, "every checksum is that of its file")
        unpacked = [p for p in sums if _unpacked(target / f"{p.relative_to(ROOT)}.gz") == sums[p]]
        row.expect(len(unpacked) == files, "every compressed file has that of its original")
        row.expect(_order(results[1::2], results[::2]), "the urgent jobs were assigned first")


def _size_of_all(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.gz"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unpacked(path: Path) -> str:
    return _digest(gzip.decompress(path.read_bytes()))


def _order(urgent: list[JobResult], others: list[JobResult]) -> bool:
    last = max(result.attempts[0].assigned_at for result in urgent)
    return last <= min(result.attempts[0].assigned_at for result in others)


async def retries(hodei: Hodei) -> None:
    async with step("One that fails twice and then succeeds, by its retry policy") as row:
        command = 'echo "try $HODEI_ATTEMPT"; test "$HODEI_ATTEMPT" -eq 3'
        policy = RetryPolicy(max_attempts=5, backoff=Backoff(first=0.2, jitter=0))
        job = await hodei.submit(command, retry=policy, env=ENV)
        async for entry in job.logs():
            show(entry)
        result = await job
        row.jobs, row.ended = 1, result.state.name
        codes = [attempt.exit_code for attempt in result.attempts]
        row.expect(result.ok and codes == [1, 1, 0], f"exit codes of its attempts: {codes}")


async def timeout(hodei: Hodei) -> None:
    async with step("One that takes too long") as row:
        result = await hodei.run("echo working; sleep 600", timeout=1, env=ENV)
        row.jobs, row.ended = 1, result.state.name
        assert result.duration is not None
        seconds = result.duration.total_seconds()
        row.expect(row.ended == "TIMED_OUT" and seconds < 3, f"it was ended after {seconds:.2f} s")
        row.expect(not processes(MARK), "nothing of it is left")


async def cancel(hodei: Hodei) -> None:
    async with step("One that is cancelled, whose grandchildren have fled") as row:
        command = (
            "(setsid setsid sleep 600 &) & setsid setsid sleep 600 & echo on; sleep 600; echo woke"
        )
        job = await hodei.submit(command, env=ENV, grace=1)
        await until(lambda: len(processes(MARK, "sleep")) == 3)
        row.expect(len(processes(MARK, "sleep")) == 3, "three processes run under its shell")
        result = await job.cancel("the demo has seen enough")
        row.jobs, row.ended = 1, result.state.name
        row.expect(row.ended == "CANCELLED", f"it is CANCELLED: {result.message}")
        row.expect(not processes(MARK), "nothing of it is left")


async def unplaceable(hodei: Hodei) -> None:
    async with step("One that can never be placed") as row:
        cpus = max(64, 2 * (await hodei.stats()).slots_total)
        job = await hodei.submit("true", resources=Resources(cpus), env=ENV)
        result = await job
        row.jobs, row.ended = 1, result.state.name
        print(textwrap.fill(str(await job.explain()), 90, initial_indent=IN, subsequent_indent=IN))
        why = f"the job asks for {cpus}"
        row.expect(why in (result.message or ""), "it says why, and no job waits for it")


async def killed_host() -> None:
    async with step("A second host, killed in the middle of its jobs") as row:
        mark = uuid.uuid4().hex
        guards: list[int] = []

        def left() -> list[int]:
            return processes(mark) + [pid for pid in guards if is_alive(pid)]

        program = [sys.executable, str(ROOT / "examples" / "demo_host.py"), mark]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as host:  # noqa: ASYNC220 - is brief
            try:
                assert host.stdout is not None
                await anyio.to_thread.run_sync(host.stdout.readline, abandon_on_cancel=True)
                await until(lambda: len(processes(mark, "sleep")) == 12)
                guards = children(host.pid)
                count = len(processes(mark, "sleep"))
                row.expect(count == 12, "its four jobs run, each with two processes that fled")
            finally:
                os.kill(host.pid, signal.SIGKILL)
            seconds = await until(lambda: not left())
        row.jobs, row.ended = 4, "LEFT BEHIND" if left() else "killed with it"
        text = f"{1000 * seconds:.0f} ms after kill -9 nothing of them is left"
        row.expect(bool(guards) and not left() and seconds < 1, f"{text}, nor of its guard")


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in texts for child in text.split()]


def is_alive(pid: int) -> bool:
    """Return whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def main() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    print(f"hodei_core on {platform.python_implementation()} {platform.python_version()}")
    begun = time.monotonic()
    with anyio.fail_after(LIMIT_SECONDS), tempfile.TemporaryDirectory() as target:
        async with Hodei() as hodei:
            await two_lines(hodei)
            await checksums(hodei, Path(target))
            await retries(hodei)
            await timeout(hodei)
            await cancel(hodei)
            await unplaceable(hodei)
        await killed_host()
        async with step("The end") as row:
            row.expect(not processes(MARK), "no process of any job is left")
            row.expect(not children(os.getpid()), "nor any other child of this program")
    summary(time.monotonic() - begun)
    return 1 if any(row.failures for row in ROWS) else 0


def summary(seconds: float) -> None:
    print(f"\n{'':3}{'step':60}{'jobs':>5}  {'ended':15}{'seconds':>8}")
    for number, row in enumerate(ROWS, 1):
        mark = "  NOT ok" if row.failures else ""
        print(f"{number}. {row.title:60}{row.jobs:5}  {row.ended:15}{row.seconds:8.2f}{mark}")
    print(f"{'':3}{'':60}{sum(row.jobs for row in ROWS):5}  {'':15}{seconds:8.2f}")
    failures = [text for row in ROWS for text in row.failures]
    print("\nAll as expected." if not failures else f"\nNOT as expected: {'; '.join(failures)}")


if __name__ == "__main__":
    sys.exit(anyio.run(main))
