"""The program `hodei`, also `python -m hodei_core`."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from typing import NoReturn


def main() -> NoReturn:
    """Run the program with the arguments of this process, and end the process."""
    if find_spec("click") is None:
        sys.exit("hodei: click is not installed: pip install 'hodei-core[cli]'")
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:  # no traceback of whatever is being imported
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from hodei_core.cli.program import run_program

        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(run_program())
    except KeyboardInterrupt:  # before there is a job, or after its end
        sys.exit(130)


if __name__ == "__main__":
    main()
