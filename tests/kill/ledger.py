"""The ledger of a run: what hosts and jobs say that happened, in the order in which it did.

Each line is one `write` to a file opened with O_APPEND. It survives any kill of its writer, since
the kernel has it; only a power cut would need more.

    host PID               a host process begins
    open                   its `Hodei` is open
    accepted ID NAME       `submit` has returned
    cancelled ID STATE     `cancel` has returned
    told ID STATE CODE     `wait` has returned
    torn ID SEQ SEQ        two entries of a log, one after the other, are not consecutive
    read ID SEQ            the last entry of a log that was read to its end
    closing                the block is being left
    closed                 it has been left
    start ID ATTEMPT PID   a job begins
    overlap ID ATTEMPT PID and finds another execution of it alive
    end ID ATTEMPT CODE    it is about to exit
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import attrs


class Pen:
    """Appends lines to a ledger."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, *words: object) -> None:
        os.write(self._fd, (" ".join(map(str, words)) + "\n").encode())

    def close(self) -> None:
        os.close(self._fd)


@attrs.define
class Ledger:
    """What the lines of a ledger say."""

    accepted: dict[str, str] = attrs.field(factory=dict)
    """Names by id."""

    told: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    """State and exit code by id, as a user was told."""

    starts: Counter[tuple[str, int]] = attrs.field(factory=Counter)
    """How often each attempt of each job began."""

    ends: dict[tuple[str, int], int] = attrs.field(factory=dict)
    """The code with which an attempt was about to exit."""

    problems: list[str] = attrs.field(factory=list)
    """What contradicts itself."""

    read: dict[str, int] = attrs.field(factory=dict)
    """The last entry of the logs that were read, by id."""


def read(path: Path) -> Ledger:
    """Return what a ledger says so far."""
    ledger = Ledger()
    ended: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        what, *words = line.split()
        if what == "accepted":
            ledger.accepted[words[0]] = words[1]
        elif what in ("told", "cancelled"):
            before = ended.setdefault(words[0], words[1])
            if before != words[1]:
                ledger.problems.append(f"{words[0]} was told to be {before}, then {words[1]}")
            if what == "told":
                ledger.told[words[0]] = (words[1], words[2])
        elif what == "start":
            if words[0] in ended:
                ledger.problems.append(f"{words[0]} started after it had ended: {line}")
            ledger.starts[words[0], int(words[1])] += 1
        elif what == "overlap":
            ledger.problems.append(f"two executions of {words[0]} were alive: {line}")
        elif what == "end":
            ledger.ends[words[0], int(words[1])] = int(words[2])
        elif what == "torn":
            ledger.problems.append(f"a log goes on elsewhere: {line}")
        elif what == "read":
            ledger.read[words[0]] = int(words[1])
    return ledger
