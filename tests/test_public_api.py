from __future__ import annotations

import subprocess
import sys
import typing

import hodei_core
from hodei_core import ports

HEAVY = [
    "docker",
    "aiosqlite",
    "click",
    "trio",
    "hodei_core.backends",
    "hodei_core.cli",
    "requests",
]

# The names that design promises at the top of the package, now that this slice is there.
PROMISED = [
    "Hodei",
    "JobHandle",
    "JobSpec",
    "JobFields",
    "Command",
    "JobState",
    "WorkerState",
    "WaitingFor",
    "Reason",
    "Job",
    "JobResult",
    "Attempt",
    "Usage",
    "LogEntry",
    "LogSource",
    "LogStream",
    "Resources",
    "RetryPolicy",
    "Backoff",
    "Explanation",
    "Stats",
    "ProviderStats",
    "Worker",
    "Execution",
    "Output",
    "Scheduler",
    "SmartScheduler",
    "Clock",
    "Event",
    "JobSubmitted",
    "JobAssigned",
    "JobStarted",
    "JobRetried",
    "JobFinished",
    "JobStuck",
    "WorkerProvisioning",
    "WorkerReady",
    "WorkerDraining",
    "WorkerTerminated",
    "WorkerLost",
    "ProviderTripped",
    "ProviderRecovered",
    "SubscriberLagged",
    "EventStream",
    "HodeiError",
    "InvalidJobError",
    "KeyConflictError",
    "OutputTooLargeError",
    "JobNotFoundError",
    "OutputLostError",
    "StoreBusyError",
    "JobFailedError",
    "JobNotFinalError",
    "QueueFullError",
    "HodeiClosedError",
    "HodeiBrokenError",
    "ForkedError",
    "StoreFullError",
    "StoreInvalidError",
    "ProvisionError",
    "JobId",
]


def test_the_public_names_are_sorted_and_there() -> None:
    assert hodei_core.__all__ == sorted(hodei_core.__all__)
    assert sorted(ports.__all__) == list(ports.__all__)
    for name in hodei_core.__all__:
        assert getattr(hodei_core, name) is not None
    for name in ports.__all__:
        assert getattr(ports, name) is not None


def test_the_promised_names_are_public() -> None:
    assert set(PROMISED) <= set(hodei_core.__all__)


def test_every_public_name_is_documented() -> None:
    for name in hodei_core.__all__:
        thing = getattr(hodei_core, name)
        if isinstance(thing, type) and typing.get_origin(thing) is None:
            assert thing.__doc__, name


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, hodei_core; "
        f"print([name for name in {HEAVY!r} if any(m == name or m.startswith(name + '.') "
        "for m in sys.modules)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_it_configures_no_logging() -> None:
    program = (
        "import logging, hodei_core; "
        "assert logging.getLogger().handlers == []; "
        "assert [type(h).__name__ for h in logging.getLogger('hodei_core').handlers] "
        "== ['NullHandler']; "
        "assert logging.getLogger('hodei_core').level == logging.NOTSET"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
