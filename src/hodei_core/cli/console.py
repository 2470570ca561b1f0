"""The program's standard output and standard error, written to without blocking the event loop."""

from __future__ import annotations

import select
import sys
from contextlib import suppress
from os import isatty, write
from typing import TextIO

import anyio


class OutputError(Exception):
    """What was to be printed could not be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror or error}")
        self.closed: bool = isinstance(error, BrokenPipeError)
        """Whether its reader has gone, as `head` does."""


class ByteWriter:
    """One descriptor, written to in order and byte for byte, while signals are still heard.

    Never more is written at once than a pipe surely takes: a reader that stands still would
    otherwise stop the event loop. The descriptor stays in blocking mode, since the terminal
    shares it with other programs.
    """

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._encoding = encoding
        self._lock = anyio.Lock(fast_acquire=True)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.terminal: bool = isatty(fd)
        self.mid_line: bool = False
        """Whether what was written last is an unfinished line."""

    async def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OutputError: it cannot be written.
        """
        if not data:
            return
        async with self._lock:
            view = memoryview(data)
            while view:
                view = view[await self._write_some(view) :]
            self.mid_line = not data.endswith(b"\n")

    async def write_text(self, text: str) -> None:
        """Write a text in the encoding of the terminal."""
        await self.write(text.encode(self._encoding, "replace"))

    def write_now(self, text: str) -> None:
        """Write a short text if that does not block; else drop it."""
        with suppress(OSError):
            if self._poll.poll(0):
                write(self._fd, text.encode(self._encoding, "replace"))
                self.mid_line = False

    async def _write_some(self, view: memoryview) -> int:
        try:
            if not self._poll.poll(0):
                await anyio.wait_writable(self._fd)
            return write(self._fd, view[: select.PIPE_BUF])
        except BlockingIOError:  # another program has set the descriptor to non-blocking
            await anyio.wait_writable(self._fd)
            return 0
        except OSError as error:
            raise OutputError(error) from error


class Console:
    """Where the program prints: the job's output, and messages of its own on standard error."""

    def __init__(self, mark: str = "hodei:") -> None:
        self.out: ByteWriter = _writer(sys.stdout, 1)
        self.err: ByteWriter = _writer(sys.stderr, 2)
        self._mark = mark

    async def say(self, message: str) -> None:
        """Print a message of the program itself; if nobody can read it, so be it."""
        with suppress(OutputError):
            await self.err.write_text(f"{self._line_start()}{self._mark} {message}\n")

    def say_now(self, message: str) -> None:
        """Print a message at once, if that does not block; a terminal may have echoed a key."""
        start = "\n" if self.err.terminal else self._line_start()
        self.err.write_now(f"{start}{self._mark} {message}\n")

    def _line_start(self) -> str:
        """Return what makes a message begin a line of its own where both outputs are shown."""
        both = self.out.terminal and self.err.terminal
        if not (self.err.mid_line or (both and self.out.mid_line)):
            return ""
        self.out.mid_line = False
        return "\n"


def _writer(stream: TextIO | None, number: int) -> ByteWriter:
    if stream is None:  # it was closed when this program started
        return ByteWriter(number)
    stream.flush()
    return ByteWriter(stream.fileno(), stream.encoding)
