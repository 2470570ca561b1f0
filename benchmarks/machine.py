"""What the kernel tells of processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_NANO = 1e-9
_MIB = 1024 * 1024


def children() -> list[int]:
    """Return the processes that this one has started and that are still there."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the threads of a process have used."""
    try:
        return sum(
            int((thread / "schedstat").read_text().split()[0]) * _NANO
            for thread in Path(f"/proc/{pid}/task").iterdir()
        )
    except FileNotFoundError:  # a kernel without it counts in hundredths of a second
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class RunQueue:
    """How long this thread was ready to run and another had the CPU."""

    def __init__(self) -> None:
        path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._file = os.open(path, os.O_RDONLY) if os.path.exists(path) else -1

    def seconds(self) -> float:
        """Return the time so far; 0 where the kernel does not tell."""
        if self._file < 0:
            return 0.0
        return int(os.pread(self._file, 100, 0).split()[1]) * _NANO

    def close(self) -> None:
        """Let go of the kernel's file."""
        if self._file >= 0:
            os.close(self._file)


def reset_peak() -> None:
    """Begin to measure the peak of resident memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Return the peak of this process's resident memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / _MIB
    return 0.0
