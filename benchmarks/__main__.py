"""Run the benchmarks: `python -m benchmarks [names] [--json] [--quick] [--list]`.

Each row is measured in a process of its own, so that none leaves its heap to the next.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from benchmarks.figures import Figure
from benchmarks.rows import ROWS
from benchmarks.table import table

_ROW_SECONDS = 300.0  # a row takes less than 60 on a quiet machine: beyond this it hangs


def main() -> int:
    arguments = _parser().parse_args()
    unknown = [name for name in arguments.names if name not in ROWS]
    if unknown:
        print(f"no row {', '.join(unknown)}; there are: {', '.join(ROWS)}", file=sys.stderr)
        return 2
    if arguments.list:
        width = max(map(len, ROWS))
        for row in ROWS.values():
            print(f"{row.name.ljust(width)}  {row.title}")
        return 0
    names = arguments.names or list(ROWS)
    if arguments.here:
        (name,) = names
        print(json.dumps([figure.as_json() for figure in ROWS[name].measure(arguments.quick)]))
        return 0
    return _run(names, quick=arguments.quick, as_json=arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what hodei_core costs, each figure next to its floor.",
    )
    parser.add_argument("names", nargs="*", help="the rows to measure; none: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it works: no figure counts"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser


def _run(names: list[str], *, quick: bool, as_json: bool) -> int:
    figures: list[Figure] = []
    failed: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name in names:
        print(f"{name}: {ROWS[name].title} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            figures += _measure(name, quick=quick)
        except RuntimeError as error:
            failed[name] = str(error)
        seconds[name] = round(time.monotonic() - began, 1)
    if as_json:
        print(json.dumps(_report(figures, failed, seconds), indent=2))
    else:
        print(table(figures))
        for name, problem in failed.items():
            print(f"{name} FAILED: {problem}")
    return 1 if failed else 0


def _measure(name: str, *, quick: bool) -> list[Figure]:
    """Return the figures of a row, measured in a process of its own.

    Raises:
        RuntimeError: it failed, or took too long.
    """
    command = [sys.executable, "-m", "benchmarks", name, "--here"]
    with subprocess.Popen(
        [*command, "--quick"] if quick else command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=_ROW_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"it took longer than {_ROW_SECONDS:g} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"it ended with exit code {process.returncode}")
    return [Figure.from_json(fields) for fields in json.loads(output)]


def _report(
    figures: list[Figure], failed: dict[str, str], seconds: dict[str, float]
) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "figures": [figure.as_json() for figure in figures],
        "failed": failed,
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
