"""How a host is killed: at a system call, at an instant, with its guard or without."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from tests.kill.plan import RUN_MARK

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = dict(os.environ)  # once: runs are threads, and pytest changes it as they begin
STORE_CALLS = {"pwrite64": 1800, "fdatasync": 90, "fcntl": 440}
"""What SQLite does to the file, and how often a thread of a host does it in its life."""

TALK_CALLS = {"epoll_wait": 900, "recvfrom": 540, "futex": 780, "sendmsg": 32, "pipe2": 55}
"""The same of the event loop: what it waits for, requests to the guard, its notices."""

OPENING_CALLS = "pwrite64,fdatasync,fsync,ftruncate,unlink,fcntl,openat,fchmod"
"""What making a file takes."""


@attrs.frozen
class Blow:
    """One kill. `calls`: at the `nth` of these; else `after` so many seconds of being open."""

    calls: str = ""
    nth: int = 0
    threads: bool = True
    """Whether it counts the calls of all threads, each alone, or those of the event loop's."""

    after: float = 0.0
    since: str = "open"
    """The line of the ledger from which on the seconds count."""

    guard: str = "spared"
    """What becomes of the guard: "spared", "killed" with the host, "frozen" before the host
    is killed and then killed, so that its jobs live on, "alone": it is killed and the host
    lives, or "asleep": it is stopped, and goes on after a `pause` from the host's death. With
    `calls`: "either" is killed, whichever comes to its `nth` first, or "both" are then."""

    lead: float = 0.0
    """Seconds between a guard's stop and its host's death."""

    pause: float = 0.0
    """Seconds; with a guard that is spared: the host is only stopped, and goes on after these."""

    def __str__(self) -> str:
        if self.calls:
            whose = "any thread" if self.threads else "the loop"
            guard = "" if self.guard == "spared" else f", {self.guard} of host and guard"
            return f"call {self.nth} of {self.calls} in {whose}{guard}"
        guard = "" if self.guard == "spared" else f", guard {self.guard}"
        pause = f", stopped for {self.pause:.1f} s" if self.pause else ""
        return f"{self.after:.3f} s after {self.since!r}{guard}{pause}"

    def command(self) -> list[str]:
        """Return what a host's command line begins with."""
        if not self.calls:
            return []
        # The tracer is a grandchild: the host is our own child, and its death is seen at once.
        follow = ["-f"] if self.threads else []
        inject = f"inject={self.calls}:signal=KILL:when={self.nth}"
        quiet = ["-e", f"trace={self.calls}", "-e", "signal=none", "-o", os.devnull]
        return ["strace", "-D", *follow, *quiet, "-e", inject]


def _call(draw: random.Random, calls: dict[str, int], share: float, *, threads: bool) -> Blow:
    """Return a blow at one of some calls, in the first `share` of how often it is done."""
    name = draw.choice(list(calls))
    return Blow(name, draw.randint(1, max(int(calls[name] * share), 1)), threads=threads)


def _write(draw: random.Random) -> Blow:
    return _call(draw, STORE_CALLS, draw.choice((0.15, 0.4, 1)), threads=True)


def _accepting(draw: random.Random) -> Blow:
    return Blow("pwrite64", draw.randint(1, 420))


def _talk(draw: random.Random) -> Blow:
    return _call(draw, TALK_CALLS, draw.choice((0.2, 1)), threads=False)


def _instant(draw: random.Random) -> Blow:
    return Blow(after=draw.uniform(0, 1.6))


def _together(draw: random.Random) -> Blow:
    return Blow(after=draw.uniform(0.05, 1.2), guard=draw.choice(("killed", "frozen")))


def _alone(draw: random.Random) -> Blow:
    return Blow(after=draw.uniform(0.05, 1.0), guard="alone")


def _asleep(draw: random.Random) -> Blow:
    # Early enough for free slots: the host sends requests that the guard finds when it goes on.
    after = draw.choice((0, draw.uniform(0, 0.2), draw.uniform(0.2, 1.2)))
    return Blow(after=after, guard="asleep", lead=draw.uniform(0, 0.4), pause=3)


def _guard(draw: random.Random) -> Blow:
    calls, most = draw.choice((("write", 110), ("wait4", 130), ("sendto", 130)))
    return Blow(calls, draw.randint(8, most), guard=draw.choice(("either", "both")))


def _stopped(draw: random.Random) -> Blow:
    return Blow(after=draw.uniform(0, 1.6), pause=draw.choice((1, 4, 9, 12, 18)))


def _recovery(draw: random.Random) -> list[Blow]:
    first = draw.choice((_write, _instant))(draw)
    return [first, *(_while_it_recovers(draw) for _ in range(draw.randint(1, 3)))]


def _while_it_recovers(draw: random.Random) -> Blow:
    if draw.random() < 0.3:
        return Blow(after=draw.uniform(0, 3))
    if draw.random() < 0.3:
        return _call(draw, TALK_CALLS, 0.4, threads=False)
    return _call(draw, STORE_CALLS, 0.15, threads=True)


def _opening(draw: random.Random) -> list[Blow]:
    calls = STORE_CALLS | {OPENING_CALLS: 600}
    return [_call(draw, calls, 0.1, threads=True) for _ in range(draw.randint(1, 4))]


def _closing(draw: random.Random) -> Blow:
    return Blow(after=draw.uniform(0, 0.7), since="closing")


KINDS: dict[str, Callable[[random.Random], Blow | list[Blow]]] = {
    "accepting": _accepting,
    "write": _write,
    "talk": _talk,
    "instant": _instant,
    "together": _together,
    "alone": _alone,
    "asleep": _asleep,
    "guard": _guard,
    "stopped": _stopped,
    "recovery": _recovery,
    "opening": _opening,
    "closing": _closing,
}
"""Each draws what befalls the hosts of a run, one after the other; the last one is spared."""


def blows(kind: str, seed: int) -> list[Blow]:
    """Return what befalls the hosts of a run."""
    drawn = KINDS[kind](random.Random(f"{kind} {seed}"))
    return drawn if isinstance(drawn, list) else [drawn]


class Host:
    """A host process of a run."""

    def __init__(self, folder: Path, seed: int, role: str, blow: Blow | None) -> None:
        self._ledger = folder / "ledger"
        self._from = self._ledger.stat().st_size if self._ledger.exists() else 0
        self._blow = blow
        self._errors = folder / "errors"
        program = [sys.executable, "-m", "tests.kill.host_program", str(folder), str(seed), role]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [*(blow.command() if blow else []), *program],
                cwd=ROOT,
                env=_ENVIRONMENT | {RUN_MARK: folder.name, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self.pid = self._process.pid

    def fate(self, seconds: float) -> str:
        """Deal the blow, if there is one; return what became of the host.

        "killed", "closed", "stopped", or why it is none of these. To be called again when it
        has gone on.
        """
        deadline = time.monotonic() + seconds
        blow, self._blow = self._blow, None
        with watching(self.pid) as host:
            if blow is not None and not blow.calls and self._noted(blow.since, deadline, host):
                ended(host, blow.after)
                self._strike(blow)
                if is_stopped(self.pid):
                    return "stopped"
            if blow is not None and blow.guard == "both" and self._noted("open", deadline, host):
                self._follow_guard(host, deadline)
            if not ended(host, deadline - time.monotonic()):
                self._process.kill()
                self._process.wait()
                return f"it had not ended after {seconds:g} s"
        code = self._process.wait()
        if code == 0:
            return "closed"
        return "killed" if code == -signal.SIGKILL and blow else f"it ended with {code}"

    def go_on(self) -> None:
        """Let it go on that was stopped."""
        self._process.send_signal(signal.SIGCONT)

    def _noted(self, word: str, deadline: float, host: int) -> bool:
        """Return whether this host has noted a fact, once it has or has ended."""
        while time.monotonic() < deadline:
            has_ended = ended(host, 0.002)
            with suppress(FileNotFoundError), self._ledger.open("rb") as file:
                file.seek(self._from)
                if any(line.split()[0] == word.encode() for line in file.read().splitlines()):
                    return True
            if has_ended:
                break
        return False

    def _follow_guard(self, host: int, deadline: float) -> None:
        """Kill the host as soon as its guard has ended, or the other way round."""
        for guard in guards_of(self.pid):
            with watching(guard) as fd:
                select.select([host, fd], [], [], deadline - time.monotonic())
                self._process.kill()
                signal_guards([guard], signal.SIGKILL)

    def _strike(self, blow: Blow) -> None:
        guards, guard = guards_of(self.pid), blow.guard
        if guard == "spared" and blow.pause:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            return
        if guard == "alone":
            signal_guards(guards, signal.SIGKILL)
            return
        if guard in ("frozen", "asleep"):
            signal_guards(guards, signal.SIGSTOP)
            time.sleep(blow.lead)
        elif guard == "killed" and self.pid % 2:
            signal_guards(guards, signal.SIGKILL)
        self._process.kill()
        if guard in ("killed", "frozen"):
            signal_guards(guards, signal.SIGKILL)


@contextmanager
def watching(pid: int) -> Iterator[int]:
    """Yield a pidfd of a process that was not waited for."""
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def ended(pidfd: int, seconds: float) -> bool:
    """Return whether a process has ended, once it has or so many seconds are over."""
    return bool(select.select([pidfd], [], [], max(seconds, 0))[0])


def guards_of(pid: int) -> list[int]:
    """Return the guards that a host has started and that live."""
    return [other for other in pids() if is_guard(other, pid)]


def is_guard(pid: int, of: int | None = None) -> bool:
    """Return whether a process is a guard, of one host if that is named."""
    words = read(f"/proc/{pid}/cmdline").split(b"\0")
    return any(word.endswith(b"/guard.py") for word in words) and (
        of is None or str(of).encode() in words
    )


def marked(mark: str) -> dict[int, str]:
    """Return what lives of a run, with its command lines; tracers aside."""
    found = {}
    for pid in pids():
        if f"{RUN_MARK}={mark}".encode() in read(f"/proc/{pid}/environ").split(b"\0"):
            command = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace")
            if command and not command.startswith("strace "):
                found[pid] = command[:80]
    return found


def is_stopped(pid: int) -> bool:
    return read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] == [b"T"]


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read(path: str) -> bytes:
    """Return what a file of /proc holds; nothing if it is gone."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def signal_guards(of: list[int], number: signal.Signals) -> None:
    """Send a signal to guards. A number that has passed to a stranger is left alone."""
    for pid in of:
        with suppress(ProcessLookupError), watching(pid) as fd:
            if is_guard(pid):
                signal.pidfd_send_signal(fd, number)


def end_marked(of: Iterable[int], mark: str) -> None:
    """Kill what is of a run."""
    for pid in of:
        with suppress(ProcessLookupError), watching(pid) as fd:
            if pid in marked(mark):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
