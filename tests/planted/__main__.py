"""Plants each bug in a copy of the project and tells what catches it: `python -m tests.planted`.

First the simulator, at most 300 seeds; then the tests that are named with the bug.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.planted.bugs import BUGS, Bug

ROOT = Path(__file__).parents[2]
SEEDS = 300
COPIED = ("src", "tests", "pyproject.toml")
SECONDS = 600


def main() -> int:
    """Print a line for each bug; return 1 if one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted")
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    survivors = 0
    for bug in BUGS:
        if options.only in bug.name:
            began = time.monotonic()
            caught = catch(bug, options.processes)
            survivors += caught is None
            took = time.monotonic() - began
            print(f"{bug.name:52} {caught or 'SURVIVES'}  ({took:.0f} s)", flush=True)
    print(f"{survivors} survive")
    return 1 if survivors else 0


def catch(bug: Bug, processes: int) -> str | None:
    """Return what catches a bug; None if nothing does."""
    with tempfile.TemporaryDirectory(prefix="hodei-planted-") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        plant(bug, copy)
        seeds = f"--seeds={SEEDS}"
        simulate = ("-m", "tests.simulation", seeds, f"--processes={processes}")
        told = run(copy, *simulate) if bug.simulated else None
        if told is not None:
            failures = [line for line in told.splitlines() if line.startswith("seed ")]
            return failures[0][:110] if failures else f"the simulator: {told[-110:]!r}"
        for test in bug.tests:
            told = run(copy, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test)
            if told is not None:
                failures = [line for line in told.splitlines() if line.startswith("FAILED ")]
                return failures[0][:110] if failures else f"{test}: {told[-110:]!r}"
    return None


def plant(bug: Bug, copy: Path) -> None:
    """Change a file of the copy.

    Raises:
        ValueError: what is to be changed is not there exactly once.
    """
    path = copy / "src" / "hodei_core" / bug.file
    text = path.read_text()
    if text.count(bug.before) != 1:
        msg = f"{bug.name}: what is to be changed is {text.count(bug.before)} times in {bug.file}"
        raise ValueError(msg)
    path.write_text(text.replace(bug.before, bug.after))


def run(copy: Path, *arguments: str) -> str | None:
    """Run Python in a copy; return what it printed if it failed, None if all was well."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            env={"PYTHONPATH": f"{copy / 'src'}:{copy}", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {SECONDS} s"
    return None if done.returncode == 0 else done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
