"""The writing connection: what has gathered while it committed goes into its next commit."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import anyio

from hodei_core.backends.sqlite.checkpoints import Checkpoints
from hodei_core.backends.sqlite.faults import concerns_all, is_busy, is_full
from hodei_core.backends.sqlite.files import BUSY_SECONDS, Place
from hodei_core.backends.sqlite.transaction import Transaction
from hodei_core.clock import SystemClock
from hodei_core.ports import Accept, Change, Needs, Outcome

logger: logging.Logger = logging.getLogger(__name__)

_EARLY_SECONDS = 0.5
_EVENTS_TRIMMED = 1_000  # events told between two removals of the oldest
_REMEMBERED = 1_024  # classes of needs whose numbers are kept; more are looked up again
_CLOCK = SystemClock()
_COUNT_FAILED = """
insert into meta (name, value) values ('failed_commits', '1')
on conflict (name) do update set value = value + 1
"""

T = TypeVar("T")

_MOST = 512  # calls in one commit: those behind them are not kept waiting for longer


class Call:
    """The changes of one caller, and what became of them."""

    __slots__ = ("changes", "done", "error", "is_over", "outcomes", "over", "until")

    def __init__(self, changes: Sequence[Change], done: asyncio.Future[None]) -> None:
        self.changes: Sequence[Change] = changes
        self.outcomes: list[Outcome] = []
        self.error: BaseException | None = None
        self.until: float = _CLOCK.monotonic() + BUSY_SECONDS
        """When it stops waiting for a file that is locked."""

        self.done: asyncio.Future[None] = done
        """Cancelled with its caller; it may be in a commit all the same."""

        self.is_over: bool = False
        self.over: anyio.Event | None = None
        """What a caller that was cancelled waits for."""

    def finished(self) -> None:
        """Let its caller go on."""
        self.is_over = True
        if not self.done.done():
            self.done.set_result(None)
        if self.over is not None:
            self.over.set()


class Batch:
    """Calls that are committed together."""

    def __init__(
        self,
        calls: list[Call],
        number: int,
        tell: Callable[[Batch], None],
        give_up: Callable[[list[Call]], None],
    ) -> None:
        self.calls = calls
        self.number = number
        self._give_up = give_up
        self._tell = tell

    def run(self, connection: WritingConnection) -> None:
        """Commit the calls; each alone, if a mistake in one fails them. Never raises.

        While the file is locked, each waits for as long as a call may, whoever is in its batch.
        """
        calls = self.calls
        while calls:
            connection.wait_for_others(min(call.until for call in calls) - _CLOCK.monotonic())
            error = self._commit(connection, calls)
            if is_full(error) and connection.reclaim():
                error = self._commit(connection, calls)
            patient: list[Call] = []
            if is_busy(error):
                now = _CLOCK.monotonic()
                patient = [call for call in calls if call.until > now]
                calls = [call for call in calls if call.until <= now]
            if error is None or concerns_all(error):
                for call in calls:
                    call.error = error
            else:
                for call in calls:
                    call.error = self._commit(connection, [call])
            if patient:
                self._give_up(calls)
            calls = patient
        self._tell(self)

    def _commit(self, connection: WritingConnection, calls: Sequence[Call]) -> BaseException | None:
        try:
            connection.commit_calls(calls, self.number)
        except BaseException as error:  # told to whom it concerns
            return error
        return None


class WritingConnection(sqlite3.Connection):
    """A connection that commits calls: one hop to its thread for each commit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._classes: dict[Needs, int] = {}
        self._patience = BUSY_SECONDS
        self._told = _EVENTS_TRIMMED  # so that an opening for one job removes them, too
        self.place: Place | None = None
        """Where its file must be for it to write."""

        self.checkpoints: Checkpoints | None = None

    def wait_for_others(self, seconds: float) -> None:
        """Set how long a transaction waits for a file that is locked."""
        seconds = max(seconds, 0.0)
        # Nearly all calls come at once: they need not say so each time.
        if seconds < BUSY_SECONDS - _EARLY_SECONDS or self._patience != BUSY_SECONDS:
            self._patience = seconds if seconds < BUSY_SECONDS - _EARLY_SECONDS else BUSY_SECONDS
            self.execute(f"pragma busy_timeout = {round(self._patience * 1000)}")

    def reclaim(self) -> bool:
        """Write what is in the log to the file, so that its space is used again.

        Returns whether that was done.
        """
        try:
            _, written, moved = self.execute("pragma wal_checkpoint(passive)").fetchone()
        except sqlite3.Error:
            return False
        return bool(written and written == moved)

    def commit_calls(self, calls: Sequence[Call], number: int) -> None:
        """Make the changes of these calls in one transaction, as the writer of that number.

        Raises:
            sqlite3.Error, StoreInvalidError: nothing was changed.
        """
        if self.place is not None:
            self.place.check()
        self.execute("begin immediate")
        committing = False
        try:
            transaction = Transaction(self, self._classes, number)
            outcomes = [transaction.make(call.changes) for call in calls]
            transaction.finish()
            told = self._told + transaction.told
            if told > _EVENTS_TRIMMED:
                transaction.trim_events()
                told = 0
            committing = True
            self.execute("commit")
        except BaseException:
            if self.in_transaction:
                self.execute("rollback")
            if committing:
                self._overwrite()
            raise
        if self.checkpoints is not None:
            self.checkpoints.committed(self)
        self._told = told
        if len(self._classes) >= _REMEMBERED:
            self._classes.clear()
        self._classes.update(transaction.added)
        for call, made in zip(calls, outcomes, strict=True):
            call.outcomes = made

    def _overwrite(self) -> None:
        """Write over what a failed commit left in the log.

        It may be whole there, and would be found after a crash though it was refused.
        """
        try:
            self.execute("begin immediate")
            self.execute(_COUNT_FAILED)
            self.execute("commit")
        except sqlite3.Error as error:
            if self.in_transaction:
                self.execute("rollback")
            logger.error(  # noqa: TRY400 - the cause is raised to whom it concerns
                "a commit failed, and should this process crash now it may be found: %s", error
            )


class Writer:
    """Commits what is handed in, a batch at a time.

    A caller that is cancelled takes its call back, or waits for the commit that it is in.
    Nobody but the connection's thread is ever within a transaction.

    Args:
        start: has the connection's thread call a function with the connection.
    """

    def __init__(self, start: Callable[[Callable[[WritingConnection], None]], None]) -> None:
        self.number: int = int.from_bytes(os.urandom(7), "big")
        """Which tells what is done here from what others do."""

        self._start = start
        self._waiting: list[Call] = []
        self._batch: Batch | None = None
        self._going = False
        self._loop = asyncio.get_running_loop()
        self._idle: anyio.Event | None = None

    async def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make changes in one transaction; return their outcomes.

        Raises:
            sqlite3.Error: nothing was changed.
        """
        call = Call(changes, self._loop.create_future())
        self._waiting.append(call)
        if changes and isinstance(changes[0], Accept):
            self._go_on()  # jobs come in crowds
        else:
            self._go()
        try:
            await call.done
        except asyncio.CancelledError:
            if call in self._waiting:
                self._waiting.remove(call)
            elif not call.is_over:
                call.over = anyio.Event()
                with anyio.CancelScope(shield=True):
                    await call.over.wait()
            raise
        if call.error is not None:
            raise call.error
        return call.outcomes

    async def until_idle(self) -> None:
        """Return when all that was handed in is committed."""
        while self._batch is not None or self._waiting:
            self._idle = self._idle or anyio.Event()
            await self._idle.wait()

    def _go_on(self) -> None:
        if self._batch is None and self._waiting and not self._going:
            self._going = True
            self._loop.call_soon(self._go)  # with what else is handed in in this turn of the loop

    def _go(self) -> None:
        self._going = False
        if self._batch is None and self._waiting:
            self._batch = Batch(self._waiting[:_MOST], self.number, self._tell, self._give_up)
            del self._waiting[:_MOST]
            self._start(self._batch.run)
        self._tell_idle()  # what was waiting may have been taken back

    # In the connection's thread

    def _tell(self, batch: Batch) -> None:
        """Take note that a batch is committed."""
        self._soon(self._finished, batch)

    def _give_up(self, calls: list[Call]) -> None:
        """Take note that some calls of a batch waited long enough for a file that is locked."""
        self._soon(_release, calls)

    def _soon(self, do: Callable[[T], None], about: T) -> None:
        try:
            self._loop.call_soon_threadsafe(do, about)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    # In the event loop

    def _finished(self, batch: Batch) -> None:
        assert batch is self._batch  # noqa: S101 - there is one at a time
        self._batch = None
        _release(batch.calls)
        self._go_on()
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None and self._batch is None and not self._waiting:
            self._idle.set()
            self._idle = None


def _release(calls: list[Call]) -> None:
    for call in calls:
        call.finished()
