"""A guard's journal, read by a host that comes after it. `guard.py` describes the lines."""

from __future__ import annotations

import fcntl
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs

from hodei_core.executions import Exit
from hodei_core.ids import JobId
from hodei_core.jobs import Attempt, Usage
from hodei_core.ports.provider import Evidence, EvidenceKind
from hodei_core.values import Value

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNKNOWN = Evidence(EvidenceKind.UNKNOWN)
_NEVER_STARTED = Evidence(EvidenceKind.NEVER_STARTED)
_NUMBERS = {"start": 2, "exit": 6, "failed": 1}
"""How many numbers follow the id of the job in each kind of line."""

_LARGEST = 1e11
"""Which none of them comes near to."""


class GuardAliveError(Exception):
    """The guard that keeps a journal has not ended."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Journal(Value):
    """What a guard that has ended wrote down."""

    boot: str
    started: int
    """When the guard started, in clock ticks since the boot."""

    host_id: str
    since: float
    """What was asked for after this instant (seconds since 1970) is here if it was started."""

    ended: bool
    """Whether the guard had ended all that it had started."""

    lines: dict[tuple[str, int], list[str]] = attrs.field(repr=False)
    """The last line of each attempt, in fields."""

    damaged: bool = False
    """Whether a line cannot be read: nobody knows what it told."""

    @property
    def of_this_boot(self) -> bool:
        """Whether the machine was not started anew since then."""
        return self.boot == _boot_id()

    @property
    def unfinished(self) -> frozenset[str]:
        """The ids of the jobs that were started, and whose exit was not written down."""
        return frozenset(job_id for (job_id, _), line in self.lines.items() if line[0] == "start")

    def evidence(self, attempt: Attempt, job_id: JobId) -> Evidence:
        """Return what is certain of an attempt.

        After another boot nothing is: the last lines may not have reached the disk.
        """
        if not self.of_this_boot:
            return _UNKNOWN
        line = self.lines.get((job_id, attempt.number))
        if line is None:
            missed = self.damaged or attempt.assigned_at.timestamp() <= self.since
            return _UNKNOWN if missed else _NEVER_STARTED
        if line[0] == "failed":
            return _NEVER_STARTED
        if line[0] == "exit" and line[6] == "0":
            at = datetime.fromtimestamp(float(line[7]), timezone.utc)
            return Evidence(EvidenceKind.EXITED, _exit(line), at)
        return _UNKNOWN


def _exit(line: list[str]) -> Exit:
    code = os.waitstatus_to_exitcode(int(line[3]))
    usage = Usage(cpu=timedelta(seconds=float(line[4])), max_rss_bytes=int(line[5]) * 1024)
    return Exit(code=code if code >= 0 else 128 - code, usage=usage)


def read_journal(path: Path) -> Journal | None:
    """Return the journal of a guard that has ended; None if there is none.

    Raises:
        GuardAliveError: it is locked.
        OSError: it cannot be read.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # It may have been rewritten since it was opened: then another file is locked.
            if _is_at(path, fd):
                with os.fdopen(os.dup(fd), "rb") as file:
                    return _parse(file.read())
        except BlockingIOError as error:
            raise GuardAliveError from error
        finally:
            os.close(fd)


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _parse(data: bytes) -> Journal | None:
    head, *texts = os.fsdecode(data).split("\n")[:-1] or [""]  # an unfinished line is none
    fields = head.split(" ")
    if fields[:2] != ["journal", "1"]:
        return None
    lines: dict[tuple[str, int], list[str]] = {}
    damaged = False
    for text in texts:
        line = text.split(" ")
        if _is_line(line):
            lines[line[1], int(line[2])] = line
        elif text != "ended":
            damaged = True
    try:
        return Journal(
            boot=fields[2],
            started=int(fields[4]),
            host_id=fields[5],
            since=float(fields[6]),
            ended="ended" in texts[-1:],
            lines=lines,
            damaged=damaged,
        )
    except (IndexError, ValueError):
        return None


def _is_line(line: list[str]) -> bool:
    """Return whether these fields tell of an attempt."""
    kind, numbers = line[0], line[2:]
    if len(numbers) != _NUMBERS.get(kind):
        return False
    try:
        int(numbers[0])
        if kind == "exit":
            os.waitstatus_to_exitcode(int(numbers[1]))
            int(numbers[3])
        return all(0 <= float(number) < _LARGEST for number in numbers)
    except (ValueError, OverflowError):
        return False


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()
