"""The pump: reads the output of all attempts of a session in one place."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Callable

from hodei_core.backends.local.run import Run, Stream

_READ_BYTES = 64 * 1024
_F_GETPIPE_SZ = 1032
"""`fcntl.F_GETPIPE_SZ`, which Python 3.10 has on some builds only."""

_EVENTS_PER_TURN = 16
"""At most 1 MiB a turn, so that the event loop is held for a few milliseconds at most.

No more are taken than are served: epoll rotates what it reports, so none is left out for ever.
"""


class Pump:
    """One epoll over every pipe, and over what else the session watches.

    A pipe leaves the epoll before it is closed: a fork of the host keeps a copy of it open, and
    epoll would go on to report it.
    """

    def __init__(self, on_end: Callable[[Run], None]) -> None:
        self._epoll = select.epoll()
        self._streams: dict[int, Stream] = {}
        self._on_end = on_end  # told when the last pipe of an attempt has ended

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to do."""
        return self._epoll.fileno()

    def watch(self, fd: int) -> None:
        """Report a descriptor that is no attempt's when it is readable."""
        self._epoll.register(fd, select.EPOLLIN)

    def watch_writable(self, fd: int, on: bool) -> None:
        """Report it when it is writable as well, or no longer."""
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if on else select.EPOLLIN)

    def add(self, run: Run) -> None:
        """Read an attempt's pipes from now on, if that is not done already.

        Not from its start: what ends within a few milliseconds is read once, when it has ended.
        """
        if not run.pumped:
            run.pumped = True
            for stream in run.streams:
                self._streams[stream.fd] = stream
                if not run.paused:
                    self._epoll.register(stream.fd, select.EPOLLIN)

    def turn(self) -> list[tuple[int, int]]:
        """Read what is there, within bounds; return the events of what is no attempt's."""
        others = []
        for event in self._epoll.poll(0, _EVENTS_PER_TURN):
            stream = self._streams.get(event[0])
            if stream is None:
                others.append(event)
            elif not stream.run.paused:
                self._read(stream, _READ_BYTES)
        return others

    def read_now(self, run: Run) -> None:
        """Read what a short job has left in its pipes, up to their end if it is there."""
        for stream in list(run.streams):
            if not run.paused and self._read(stream, _READ_BYTES) and not run.paused:
                self._read(stream, _READ_BYTES)

    def resume(self, run: Run) -> None:
        """Read an attempt's pipes again: there is room for their output."""
        run.paused = False
        if run.pumped:
            for stream in run.streams:
                self._epoll.register(stream.fd, select.EPOLLIN)

    def drain(self, run: Run) -> None:
        """Take what the pipes of an attempt hold and close them, whoever may write on.

        No room in its buffer is asked for: a pipe holds no more than its capacity.
        """
        for stream in list(run.streams):
            left = fcntl.fcntl(stream.fd, _F_GETPIPE_SZ)
            while left > 0 and (count := self._read(stream, min(left, _READ_BYTES))):
                left -= count
            if stream in run.streams:
                self._close(stream)

    def close(self) -> None:
        """Stop; the pipes must be closed."""
        self._epoll.close()

    def _read(self, stream: Stream, size: int) -> int:
        """Read a pipe once; return how many bytes there were."""
        run = stream.run
        try:
            data = os.read(stream.fd, size)
        except BlockingIOError:
            return 0
        if not data:
            self._close(stream)
            if not run.streams:
                self._on_end(run)
            return 0
        run.tell_started()
        if not run.output.feed(stream.source, data) and not run.paused:
            self._pause(run)
        return len(data)

    def _pause(self, run: Run) -> None:
        run.paused = True
        if run.pumped:
            for stream in run.streams:
                self._epoll.unregister(stream.fd)
        run.wake.set()

    def _close(self, stream: Stream) -> None:
        run = stream.run
        if run.pumped:
            if not run.paused:
                self._epoll.unregister(stream.fd)
            del self._streams[stream.fd]
        run.streams.remove(stream)
        os.close(stream.fd)
