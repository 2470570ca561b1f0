"""What this process may use of the machine: CPUs and memory, by affinity and cgroups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_NO_LIMIT = 1 << 60
"""cgroup v1 writes about 2**63 where there is no limit of memory."""


def usable_cpus(root: Path = _ROOT) -> int:
    """Return how many CPUs this process may use, at least 1: affinity and cgroup quotas.

    A quota of two and a half CPUs counts as two: a third job would only slow the others down.
    """
    try:
        cpus: float = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        cpus = os.cpu_count() or 1
    quota = cpu_quota(root)
    return max(1, math.floor(cpus if quota is None else min(cpus, quota)))


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return the least quota of this process's cgroup and those around it, in CPUs.

    None where there is none. `root` is where the files of /proc and /sys are looked for.
    """
    quotas = []
    for folder in _cgroups(root, "cpu"):
        quota, period = _words(folder / "cpu.max", 2)  # v2: "200000 100000" or "max 100000"
        if quota is None:
            (quota,) = _words(folder / "cpu.cfs_quota_us", 1)  # v1: -1 for none
            (period,) = _words(folder / "cpu.cfs_period_us", 1)
        if quota is not None and period is not None and quota > 0 and period > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def usable_memory(root: Path = _ROOT) -> int | None:
    """Return the bytes of memory that this process and its children may use together.

    The machine's memory or the least limit of the cgroups, whichever is less; None if unknown.
    """
    sizes = [size for size in (_machine_memory(root),) if size is not None]
    for folder in _cgroups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            (size,) = _words(folder / name, 1)
            if size is not None and 0 < size < _NO_LIMIT:
                sizes.append(size)
    return min(sizes, default=None)


def _machine_memory(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        name, _, size = line.partition(":")
        if name == "MemTotal":
            return int(size.split()[0]) * 1024
    return None


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and of all around it, for a controller.

    A path that leads outside of what is mounted (a container shows its own cgroup as the
    root) is cut from the left until it fits; the mounted root always counts.
    """
    mounts = _mounts(root, controller)
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount = mounts.get("")
        elif controller in controllers.split(","):
            mount = mounts.get(controller)
        else:
            continue
        if mount is not None:
            yield from _and_parents(mount, path)


def _and_parents(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part and part != ".."]
    while parts and not mount.joinpath(*parts).is_dir():
        del parts[0]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _mounts(root: Path, controller: str) -> dict[str, Path]:
    """Return where cgroup v2 ("") and the controller of v1 are mounted."""
    found: dict[str, Path] = {}
    for line in _lines(root / "proc/self/mountinfo"):
        # "... mount-id parent dev root MOUNT-POINT options [tags] - TYPE source SUPER-OPTIONS"
        before, _, after = line.partition(" - ")
        words, kinds = before.split(), after.split()
        if len(words) < 5 or len(kinds) < 3:
            continue
        point = root / words[4].replace("\\040", " ").lstrip("/")
        if kinds[0] == "cgroup2":
            found.setdefault("", point)
        elif kinds[0] == "cgroup" and controller in kinds[2].split(","):
            found.setdefault(controller, point)
    return found


def _words(path: Path, count: int) -> list[int | None]:
    """Return the first words of a file as numbers; None for one that is none or not there."""
    words = " ".join(_lines(path)).split()[:count]
    numbers = [int(word) if word.lstrip("-").isdigit() else None for word in words]
    return numbers + [None] * (count - len(numbers))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
