"""The signals by which the program is told to stop."""

from __future__ import annotations

import signal
import sys

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def stopping_signals() -> list[signal.Signals]:
    """Return those that are obeyed: none that whoever started us has ignored."""
    if sys.platform == "win32":
        return []
    signals = [signal.Signals[name] for name in _NAMES]
    return [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]


def signal_name(received: signal.Signals) -> str:
    """Return what a person calls a signal."""
    return "Ctrl-C" if received is signal.SIGINT else received.name
