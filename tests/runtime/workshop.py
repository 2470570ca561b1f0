"""A provider whose jobs do what their command says, for tests of the runtime."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import anyio
import anyio.lowlevel

from hodei_core import Execution, LogSource, Output
from hodei_core.backends.memory import MemoryProvider

LIMIT = 10.0
"""Seconds within which every awaited fact of a test must come true."""


async def until(met: Callable[[], bool]) -> None:
    """Return when a fact is true that other tasks of this loop bring about."""
    with anyio.fail_after(LIMIT):
        while not met():
            await anyio.lowlevel.checkpoint()


class Workshop:
    """Runs jobs in memory. Their commands:

    `exit N` ends with that code; `print TEXT` prints a line; `hang` runs until it is ended;
    `gate NAME` runs until `open(NAME)`; `fail N` fails in the first N attempts; `raise` raises.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        """The commands in the order of their starts."""

        self.ended: list[str] = []
        """The commands whose attempt was ended from outside."""

        self.live = 0
        self.most = 0
        """The most attempts that were alive at once."""

        self._gates: dict[str, anyio.Event] = defaultdict(anyio.Event)
        self._starts: dict[str, anyio.Event] = defaultdict(anyio.Event)

    def open(self, name: str) -> None:
        """Let the jobs behind a gate end."""
        self._gates[name].set()

    async def has_started(self, command: str) -> None:
        """Return when an attempt with this command has started."""
        with anyio.fail_after(LIMIT):
            await self._starts[command].wait()

    def provider(self, **options: object) -> MemoryProvider:
        """Return a provider that runs jobs here; unless told otherwise it keeps its workers."""
        options.setdefault("min_workers", options.get("max_workers", 1))
        return MemoryProvider(self.handle, **options)  # type: ignore[arg-type]

    async def handle(self, execution: Execution, output: Output) -> int | None:
        command = execution.spec.command
        assert isinstance(command, str)
        self.started.append(command)
        self.live += 1
        self.most = max(self.most, self.live)
        self._starts[command].set()
        try:
            return await self._run(command, execution, output)
        except anyio.get_cancelled_exc_class():
            self.ended.append(command)
            raise
        finally:
            self.live -= 1

    async def _run(self, command: str, execution: Execution, output: Output) -> int | None:
        verb, _, rest = command.partition(" ")
        if verb == "exit":
            return int(rest)
        if verb == "print":
            await output.write(rest + "\n")
        elif verb == "warn":
            await output.write(rest + "\n", LogSource.STDERR)
        elif verb == "hang":
            await anyio.sleep_forever()
        elif verb == "gate":
            await self._gates[rest].wait()
        elif verb == "fail":
            return 1 if execution.attempt <= int(rest) else 0
        elif verb == "raise":
            msg = f"boom {rest}"
            raise RuntimeError(msg)
        return None
