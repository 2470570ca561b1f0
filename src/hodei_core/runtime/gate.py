"""Who may call a `Hodei`, and when: its state, how it stops, and where it was opened."""

from __future__ import annotations

import os
from enum import Enum

from hodei_core.errors import ForkedError, HodeiBrokenError, HodeiClosedError
from hodei_core.runtime.loops import running_loop


class State(Enum):
    """How far a host is in its life."""

    NEW = "new"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Stop(Enum):
    """How a host is to stop; a higher value overrides a lower."""

    NORMALLY = 1
    AT_ONCE = 2
    BROKEN = 3


class Gate:
    """Refuses calls that a host cannot answer.

    `readable_when_closed`: whether what is stored can still be read when all is closed.
    """

    def __init__(self, *, readable_when_closed: bool) -> None:
        self.state: State = State.NEW
        self.begun: bool = False
        """Whether somebody has begun to open it."""

        self._readable_when_closed = readable_when_closed
        self._pid: int | None = None
        self._loop: object | None = None
        self._broken_by: BaseException | None = None

    def begin(self) -> None:
        """Take note that it is being opened, here, which happens once.

        Raises:
            RuntimeError: it was opened before.
            ForkedError: it was opened by the parent process.
        """
        self.check_place()
        if self.begun:
            msg = "a Hodei is opened once; make a new one"
            raise RuntimeError(msg)
        self.begun = True
        self._pid = os.getpid()
        self._loop = running_loop()

    def refuse_new_work(self) -> None:
        """Let no more in that needs an open host."""
        if self.state is State.OPEN:
            self.state = State.CLOSING

    def break_by(self, error: BaseException) -> None:
        """Let nothing in any more, because of this error."""
        self._broken_by = self._broken_by or error

    @property
    def closed(self) -> bool:
        """Whether nothing runs any more."""
        return self.state is State.CLOSED

    @property
    def sign(self) -> str:
        """The state in a word, for people."""
        return self.state.value if self._broken_by is None else "broken"

    def check_open(self) -> None:
        """Refuse what needs a host that takes new work.

        Raises:
            HodeiClosedError, HodeiBrokenError, ForkedError, RuntimeError
        """
        self.check_readable()
        if self.state is not State.OPEN:
            msg = "this Hodei is closing or closed: it takes no new jobs"
            raise HodeiClosedError(msg)

    def check_listenable(self) -> None:
        """Refuse what needs a host that can be read, or will be.

        Raises:
            HodeiClosedError, HodeiBrokenError, ForkedError, RuntimeError
        """
        if self.state is State.NEW:
            self.check_place()
        else:
            self.check_readable()

    def check_readable(self) -> None:
        """Refuse what needs a host that can be read.

        Raises:
            HodeiClosedError, HodeiBrokenError, ForkedError, RuntimeError
        """
        self.check_place()
        if self.state is State.NEW:
            msg = "this Hodei is not open: use `async with Hodei() as hodei:` or `await open()`"
            raise HodeiClosedError(msg)
        if self._broken_by is not None:
            msg = f"this Hodei is broken: {self._broken_by!r}"
            raise HodeiBrokenError(msg) from self._broken_by
        if self.state is State.CLOSED and not self._readable_when_closed:
            msg = "this Hodei is closed"
            raise HodeiClosedError(msg)

    def check_place(self) -> None:
        """Refuse calls from elsewhere than where it was opened.

        Raises:
            ForkedError: from a forked child of the process that opened it.
            RuntimeError: from another event loop, or another thread, while it is open.
        """
        if self._pid is None:
            return
        if os.getpid() != self._pid:
            msg = "this Hodei was opened by the parent process; a forked child cannot use it"
            raise ForkedError(msg)
        if self.state is not State.CLOSED and running_loop() is not self._loop:
            msg = "this Hodei was opened in another event loop; use it there, or open one here"
            raise RuntimeError(msg)
