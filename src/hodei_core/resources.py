"""What a job needs of a worker and what a worker has: CPUs and memory."""

from __future__ import annotations

import math
import re

import attrs

from hodei_core.errors import InvalidJobError, shown

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]{0,3})")
_CPU_DIGITS = 6  # a millionth of a CPU; sums of shares such as 0.1 stay exact


def _cpus(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"resources.cpus: must be a number, not {shown(value)}"
        raise InvalidJobError(msg, field="resources.cpus")
    try:
        cpus = float(value)
    except OverflowError:
        cpus = math.inf
    if not math.isfinite(cpus) or cpus < 0:
        msg = f"resources.cpus: must be 0 or more and finite, not {shown(value)}"
        raise InvalidJobError(msg, field="resources.cpus")
    return round(cpus, _CPU_DIGITS) + 0.0  # -0.0 is 0.0


def _memory(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        return parse_bytes(value)
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"resources.memory: must be bytes or text such as '512MiB', not {shown(value)}"
        raise InvalidJobError(msg, field="resources.memory")
    if value < 0:
        msg = f"resources.memory: must be 0 bytes or more, not {shown(value)}"
        raise InvalidJobError(msg, field="resources.memory")
    return value


def parse_bytes(text: str) -> int:
    """Return the bytes that a size such as "512MiB", "1.5 GB" or "4096" means.

    KiB, MiB, GiB and TiB count in powers of 1024; kB, MB, GB and TB in powers of 1000.

    Raises:
        InvalidJobError: the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        msg = f"resources.memory: {shown(text)} is no size; write it as '512MiB', '2GB' or in bytes"
        raise InvalidJobError(msg, field="resources.memory")
    number = match.group(1)
    return int(number) * unit if number.isdigit() else round(float(number) * unit)


@attrs.frozen(order=False, cache_hash=True)
class Resources:
    """CPUs and memory: of a job what it needs, of a worker what it has.

    `a <= b` asks whether `a`, as a need, fits into `b`, as an offer. Memory of None is no
    need at all in a job, and no limit at all in a worker.
    """

    cpus: float = attrs.field(default=1.0, converter=_cpus)
    """Number of CPUs; shares such as 0.5 are fine."""

    memory: int | None = attrs.field(default=None, converter=_memory, kw_only=False)
    """Bytes; given as bytes or as text such as "512MiB"."""

    def __le__(self, other: Resources) -> bool:
        if not isinstance(other, Resources):
            return NotImplemented
        return self.cpus <= other.cpus and (
            self.memory is None or other.memory is None or self.memory <= other.memory
        )

    def __ge__(self, other: Resources) -> bool:
        if not isinstance(other, Resources):
            return NotImplemented
        return other <= self

    def __add__(self, other: Resources) -> Resources:
        """Return both together; memory of None counts as nothing unless both are None."""
        if not isinstance(other, Resources):
            return NotImplemented
        if self.memory is None and other.memory is None:
            return Resources(self.cpus + other.cpus, None)
        return Resources(self.cpus + other.cpus, (self.memory or 0) + (other.memory or 0))

    def __sub__(self, other: Resources) -> Resources:
        """Return what is left of this offer when `other` is taken; no limit stays no limit.

        Raises:
            ValueError: `other` does not fit.
        """
        if not isinstance(other, Resources):
            return NotImplemented
        if not other <= self:
            msg = f"{other} does not fit into {self}"
            raise ValueError(msg)
        memory = None if self.memory is None else self.memory - (other.memory or 0)
        return Resources(self.cpus - other.cpus, memory)

    def __mul__(self, times: int) -> Resources:
        """Return `times` of this, e.g. what all slots of a worker have together."""
        if not isinstance(times, int):
            return NotImplemented
        return Resources(self.cpus * times, None if self.memory is None else self.memory * times)

    def __str__(self) -> str:
        cpus = f"{self.cpus:g} CPU" + ("" if self.cpus == 1 else "s")
        return cpus if self.memory is None else f"{cpus}, {format_bytes(self.memory)}"


def format_bytes(size: int) -> str:
    """Return a size in the largest binary unit that keeps it readable, e.g. "512 MiB"."""
    for unit, name in ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"
