"""The program `hodei`, also `python -m hodei_core`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import NoReturn


def main() -> NoReturn:
    """Run the program with the arguments of this process, and end the process."""
    if find_spec("click") is None:
        sys.exit("hodei: click is not installed: pip install 'hodei-core[cli]'")
    try:
        from hodei_core.cli.program import run_program

        sys.exit(run_program())
    except KeyboardInterrupt:  # before there is a job, or after its end
        sys.exit(130)


if __name__ == "__main__":
    main()
