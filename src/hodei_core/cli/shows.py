"""The forms in which a job is shown: its bytes as they are, decorated, or as JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from hodei_core.cli.console import Console
from hodei_core.cli.records import entry_fields, json_line, result_fields
from hodei_core.compat import override
from hodei_core.ids import JobId
from hodei_core.logs import LogEntry, LogSource
from hodei_core.results import JobResult

_MARKS = {LogSource.STDOUT: "OUT", LogSource.STDERR: "ERR", LogSource.SYSTEM: "SYS"}
_source = attrgetter("source")


class Show(ABC):
    """Prints one job, from its acceptance to its end. Every method may raise `OutputError`."""

    def __init__(self, console: Console) -> None:
        self.console = console

    async def begin(self, job_id: JobId) -> None:  # noqa: B027 - a form may have nothing to say
        """Show that the job was accepted."""

    @abstractmethod
    async def entries(self, entries: Sequence[LogEntry]) -> None:
        """Show what the job printed."""

    async def end(self, result: JobResult) -> None:  # noqa: B027 - as above
        """Show how it ended."""


class PlainShow(Show):
    """The job's output on our output, its errors on ours, byte for byte."""

    @override
    async def entries(self, entries: Sequence[LogEntry]) -> None:
        for source, group in groupby(entries, key=_source):
            if source is LogSource.SYSTEM:
                for entry in group:
                    await self.console.say(_note(entry))
            else:
                writer = self.console.out if source is LogSource.STDOUT else self.console.err
                await writer.write(b"".join([entry.data for entry in group]))


class DecoratedShow(Show):
    """Each line with its local time and its source, and a summary: for people."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lines = 0

    @override
    async def begin(self, job_id: JobId) -> None:
        await self.console.out.write_text(f"✅ Job queued: {job_id}\n📡 Streaming logs...\n")

    @override
    async def entries(self, entries: Sequence[LogEntry]) -> None:
        self._lines += sum(1 for entry in entries if not entry.partial and not entry.lost)
        await self.console.out.write_text("".join([self._line(entry) for entry in entries]))

    def _line(self, entry: LogEntry) -> str:
        text = _note(entry) if entry.lost else entry.text
        return f"{_time_of_day(entry.at)} [{_MARKS[entry.source]}] {text}\n"

    @override
    async def end(self, result: JobResult) -> None:
        code = "no exit code" if result.exit_code is None else f"exit {result.exit_code}"
        lines = f"{self._lines} log line" + ("" if self._lines == 1 else "s")
        seconds = 0.0 if result.duration is None else result.duration.total_seconds()
        await self.console.out.write_text(
            f"📊 {result.state.name}  {code}  {lines}  {seconds:.2f} s\n"
        )


class JsonShow(Show):
    """One JSON object a line: each log entry, then the result. The fields are in docs/cli.md."""

    @override
    async def entries(self, entries: Sequence[LogEntry]) -> None:
        await self.console.out.write(
            b"".join([json_line(entry_fields(entry)) for entry in entries])
        )

    @override
    async def end(self, result: JobResult) -> None:
        await self.console.out.write(json_line(result_fields(result)))


def _note(entry: LogEntry) -> str:
    return entry.text or _lost(entry.lost)


def _lost(count: int) -> str:
    return f"{count} log line{' is' if count == 1 else 's are'} lost here"


def _time_of_day(at: datetime) -> str:
    local = at.astimezone()
    return f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"
