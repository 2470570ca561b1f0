"""What `import hodei_core` takes: CPU time, which is what a quiet machine would take."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import Measure, take_turns


def measure(quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="hodei-benchmark-") as compiled:
        return asyncio.run(_measure(2 if quick else 30, compiled))


async def _measure(rounds: int, compiled: str) -> list[Figure]:
    # As installed: compiled, whatever the environment says, and next to nobody's sources.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    programs = ["import anyio, attrs", *_PROGRAMS.values()]
    measures = [_interpreter(program, environment) for program in programs]
    await take_turns(1, *measures)
    results = await take_turns(rounds, *measures)
    return [
        Figure(
            name=name,
            what=f"CPU time of an interpreter that runs `{program}`, from its start to its end",
            unit="ms",
            floor_is="one that imports attrs and anyio",
            floor=results.median(0),
            ours=results.median(place),
            judged=Judged.DIFFERENCE,
            value=results.difference(place, 0),
            first=60.0 if name == "import" else None,
            end=30.0 if name == "import" else None,
        )
        for place, (name, program) in enumerate(_PROGRAMS.items(), 1)
    ]


# The second is what a program pays that uses it: runtime and store come with the first Hodei.
_PROGRAMS = {
    "import": "import hodei_core",
    "import.used": "from hodei_core import Hodei; Hodei(providers=[])",
}


def _interpreter(program: str, environment: dict[str, str]) -> Measure:
    async def milliseconds() -> float:
        began = _children_seconds()
        subprocess.run(  # noqa: ASYNC221 - nobody waits
            [sys.executable, "-c", program], check=True, env=environment
        )
        return (_children_seconds() - began) * 1e3

    return milliseconds


def _children_seconds() -> float:
    """Return the CPU time of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


ROW = Row("import", "import hodei_core", measure)
