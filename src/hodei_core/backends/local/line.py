"""The host's end of the line to the guard: requests out, notices in.

`guard.py` describes the messages.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from hodei_core.executions import Execution

_MAX_REQUEST = 16 * 1024
"""Bytes of a datagram that the guard takes; more travels in a file."""

_MAX_NOTICES = 64 * 1024

_FIELDS = {b"started": 3, b"exited": 6, b"failed": 3, b"gone": 1, b"pong": 1}
"""How many fields follow the name of a notice."""


def base_request(cwd: str, host_id: str, env: Mapping[str, str]) -> bytes:
    """Return the request that tells what all jobs have in common."""
    return _join(["base", cwd, host_id], env)


def start_request(number: int, execution: Execution, cwd: str, memory_bytes: int | None) -> bytes:
    """Return the request to start an attempt; cwd "" is the base's."""
    argv = execution.spec.argv()
    memory = str(memory_bytes) if memory_bytes else ""
    fields = ["start", str(number), execution.job_id, str(execution.attempt), cwd, memory]
    return _join([*fields, str(len(argv)), *argv], execution.spec.env)


def end_request(number: int, grace: float) -> bytes:
    """Return the request to end all of an attempt: SIGTERM, `grace` seconds, SIGKILL."""
    return b"end\0%d\0%.6f" % (number, grace)


def lease_request(until: float | None) -> bytes:
    """Return the request to end all at an instant of CLOCK_BOOTTIME; None: never."""
    return b"lease\0" if until is None else b"lease\0%.6f" % until


PING = b"ping\x000"
"""The request to show a sign of life; its number is 0, which no attempt has."""


def notices(data: bytes) -> Iterator[list[bytes]]:
    """Yield each notice of a datagram, its name first."""
    fields = data.split(b"\0")
    position = 0
    while position < len(fields):
        end = position + 1 + _FIELDS[fields[position]]
        yield fields[position:end]
        position = end


def _join(fields: list[str], env: Mapping[str, str]) -> bytes:
    if env:
        fields += [f"{name}={value}" for name, value in env.items()]
    return os.fsencode("\0".join(fields))


class Line:
    """Sends requests in order and never waits: what does not go through yet is kept.

    Descriptors that are sent are closed here once they are on their way.
    """

    def __init__(self, line: socket.socket, watch_writable: Callable[[bool], None]) -> None:
        self._socket = line
        self._watch_writable = watch_writable
        self._queue: deque[tuple[int, bytes, list[int]]] = deque()

    def send(self, number: int, data: bytes, fds: list[int]) -> None:
        """Send a request about an attempt.

        Raises:
            OSError: it was not sent; the descriptors are still the caller's.
        """
        body = -1
        if len(data) > _MAX_REQUEST:
            body = file_of(data)
            data = b"long\0%d" % number
        passed = fds if body < 0 else [body, *fds]
        try:
            if self._queue or not self._try(data, passed):
                self._queue.append((number, data, passed))
                self._watch_writable(True)
                return
        except OSError:
            if body >= 0:
                os.close(body)
            raise
        _close(passed)

    def insist(self, number: int, data: bytes) -> None:
        """Send a request without descriptors; if that fails, try again when there is room.

        That the guard is gone is not told here: its socket's end and its pidfd tell.
        """
        try:
            self.send(number, data, [])
        except OSError:
            self._queue.append((number, data, []))
            self._watch_writable(True)

    def flush(self) -> None:
        """Send what was kept; the socket is writable.

        Raises:
            OSError: the guard is gone.
        """
        while self._queue:
            _, data, fds = self._queue[0]
            if not self._try(data, fds):
                return
            self._queue.popleft()
            _close(fds)
        self._watch_writable(False)

    def withdraw(self, number: int) -> bool:
        """Drop the start of an attempt if it is still here; whether it was."""
        for request in self._queue:
            if request[0] == number and request[2]:  # a start passes descriptors, an end none
                self._queue.remove(request)
                _close(request[2])
                return True
        return False

    def receive(self) -> bytes | None:
        """Return a datagram of notices; None if there is none; empty when the guard is gone."""
        try:
            return self._socket.recv(_MAX_NOTICES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Drop what was not sent."""
        while self._queue:
            _close(self._queue.popleft()[2])

    def _try(self, data: bytes, fds: list[int]) -> bool:
        try:
            if fds:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                self._socket.sendmsg([data], [rights])
            else:
                self._socket.send(data)
        except BlockingIOError:
            return False
        return True


def file_of(data: bytes) -> int:
    """Return a descriptor of a new file in memory that holds `data`, to be read from its start.

    Raises:
        OSError: out of descriptors or of memory.
    """
    fd = os.memfd_create("hodei")
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
