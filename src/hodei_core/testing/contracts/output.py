"""Where the suite of a provider lets an attempt print, and what it checks on the way."""

# ruff: noqa: S101 - a suite asserts

from __future__ import annotations

import anyio

from hodei_core.compat import override
from hodei_core.logs import LogSource
from hodei_core.ports import AttemptOutput


class RecordedOutput(AttemptOutput):
    """Keeps what an attempt prints, and holds the session to the rules of `AttemptOutput`.

    Args:
        full_at: after so many bytes the buffer counts as full, until `empty` is called.
        grace: seconds from SIGTERM to SIGKILL.
    """

    def __init__(self, *, full_at: int | None = None, grace: float = 5.0) -> None:
        self.data: dict[LogSource, bytes] = {LogSource.STDOUT: b"", LogSource.STDERR: b""}
        self.began: bool = False
        """Whether the attempt was told to have started."""

        self.returned = False
        """Set by the suite once `execute` has returned: nothing may come after."""

        self.overrun: int = 0
        """Bytes fed between being told that the buffer is full and its being empty again."""

        self._finished: set[LogSource] = set()
        self._full_at = full_at
        self._fed = 0
        self._room = anyio.Event()
        self._changed = anyio.Event()
        self._grace = grace

    @property
    def stdout(self) -> bytes:
        """What was printed on standard output."""
        return self.data[LogSource.STDOUT]

    @property
    def stderr(self) -> bytes:
        """What was printed on standard error."""
        return self.data[LogSource.STDERR]

    @property
    def full(self) -> bool:
        """Whether the buffer counts as full."""
        return self._full_at is not None and self._fed >= self._full_at

    def empty(self) -> None:
        """Let the buffer take all that comes from now on."""
        self._full_at = None
        self._room.set()

    def assert_finished(self) -> None:
        """Check that all that was printed was finished."""
        open_streams = {source for source, data in self.data.items() if data} - self._finished
        assert not open_streams, f"not finished: {open_streams}"

    async def until_printed(self, data: bytes) -> None:
        """Return when standard output holds these bytes."""
        while data not in self.stdout:
            await self._changed.wait()

    async def until_full(self) -> None:
        """Return when the buffer counts as full."""
        while not self.full:
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    @override
    def started(self, ago: float = 0.0) -> None:
        assert not self.began, "started twice"
        assert ago >= 0
        self.began = True
        self._tell()

    @override
    def feed(self, source: LogSource, data: bytes) -> bool:
        assert self.began, "fed before it was started"
        assert not self.returned, f"fed {data!r} after execute had returned"
        assert source in self.data, f"fed as {source}"
        if self.full:
            self.overrun += len(data)
        self.data[source] += data
        self._fed += len(data)
        self._finished.discard(source)
        self._tell()
        return not self.full

    @override
    def finish(self, source: LogSource) -> None:
        assert not self.returned, "finished after execute had returned"
        self._finished.add(source)

    @override
    async def ready(self) -> None:
        if self.full:
            await self._room.wait()

    @property
    @override
    def grace(self) -> float:
        return self._grace
