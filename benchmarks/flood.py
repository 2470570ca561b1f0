"""A process that prints as fast as a pipe takes it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

LINE_BYTES = 100


@contextmanager
def flood(lines: int) -> Iterator[tuple[str, ...]]:
    """Give a command that prints so many lines of 100 bytes: `cat` of a file of them."""
    block = b"".join(b"%099d\n" % number for number in range(1_000))
    with tempfile.NamedTemporaryFile(prefix="hodei-benchmark-") as file:
        for begin in range(0, lines, 1_000):
            file.write(block[: LINE_BYTES * min(lines - begin, 1_000)])
        file.flush()
        yield ("cat", file.name)
