"""The guard as its host sees it: how it is started, watched and ended."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import anyio

from hodei_core.backends.local.environment import guard_environment
from hodei_core.errors import ProvisionError

_PROGRAM = str(Path(__file__).with_name("guard.py"))
_HELLO_SECONDS = 10.0
_SOCKET = 3
"""The descriptor at which the guard finds its end of the socket pair."""

_MAX_ERRORS_BYTES = 4096


class GuardProcess:
    """A guard that was started: its socket, and a pidfd that names it and nothing else."""

    def __init__(self, pid: int, pidfd: int, line: socket.socket, errors: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.line = line
        self._errors = errors
        self._end: str | None = None
        self._said = ""
        self.ended_well: bool = False
        """Whether it ended by itself, which it does once nothing is left of what it started."""

        self.closed: bool = False

    @classmethod
    def start(cls, python: str, *, journal: Path | None = None, host_id: str = "") -> GuardProcess:
        """Start a guard under an interpreter, which may keep a journal for a host.

        Raises:
            OSError: the system could not.
        """
        with ExitStack() as on_error, ExitStack() as always:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            on_error.callback(ours.close)
            always.callback(theirs.close)
            ours.setblocking(False)
            errors = os.memfd_create("hodei-guard-errors")
            on_error.callback(os.close, errors)
            notes = [] if journal is None else [str(journal), host_id]
            pid = _spawn(python, theirs.fileno(), errors, notes)
            # A host that reaps all its children may be faster: then the number is nobody's.
            pidfd = os.pidfd_open(pid)
            on_error.pop_all()
        return cls(pid, pidfd, ours, errors)

    async def wait_hello(self) -> None:
        """Return when the guard is ready to serve.

        Raises:
            ProvisionError: it ended, said something else, or took longer than 10 seconds.
        """
        with anyio.move_on_after(_HELLO_SECONDS):
            await anyio.wait_readable(self.line)
            with suppress(OSError):
                if self.line.recv(64) == b"hello":
                    return
            await anyio.wait_readable(self.pidfd)
            self.reap()
            raise ProvisionError(f"the guard did not start: {self.describe_end()}")
        self._note_errors()
        msg = f"the guard did not start within {_HELLO_SECONDS:g} s{self._said}"
        raise ProvisionError(msg)

    def hang_up(self) -> None:
        """Make the guard kill all that runs, and end; copies of the socket in forks or not."""
        with suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)
        self._signal(signal.SIGCONT)  # a job may have stopped it

    async def wait(self, seconds: float) -> bool:
        """Return whether it ended within some seconds."""
        with anyio.move_on_after(seconds):
            await anyio.wait_readable(self.pidfd)
            self.reap()
            return True
        return False

    def kill(self) -> None:
        """End the guard at once: what it has started runs on."""
        self._signal(signal.SIGKILL)

    def reap(self) -> None:
        """Leave no zombie of a guard that has ended, whoever may have waited for it before."""
        if self._end is not None:
            return
        self._note_errors()
        try:
            found = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            found = None
        if found is None:
            self._end = "it has ended"
        elif found.si_code == os.CLD_EXITED:
            self.ended_well = found.si_status == 0
            self._end = f"it exited with code {found.si_status}"
        else:
            self._end = f"it was killed by signal {found.si_status}"

    def describe_end(self) -> str:
        """Return how it ended, with the end of what it wrote to its stderr."""
        return f"{self._end or 'it went silent'}{self._said}"

    def close(self) -> None:
        """Let go of it; it must have ended. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.line.close()
        os.close(self.pidfd)
        os.close(self._errors)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def _note_errors(self) -> None:
        size = os.fstat(self._errors).st_size
        data = os.pread(self._errors, _MAX_ERRORS_BYTES, max(size - _MAX_ERRORS_BYTES, 0))
        text = data.decode("utf-8", "replace").strip()
        self._said = f"; it said: {text}" if text else ""


def _spawn(python: str, line: int, errors: int, notes: list[str]) -> int:
    # A host may have closed its stdio: descriptors below 10 may be those that are set up here.
    with ExitStack() as copies:
        high = []
        for fd in (line, errors):
            high.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10))
            copies.callback(os.close, high[-1])
        return os.posix_spawn(
            python,
            [python, "-I", "-S", _PROGRAM, str(os.getpid()), *notes],
            guard_environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, high[1], 2),
                (os.POSIX_SPAWN_DUP2, high[0], _SOCKET),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals(),
        )
