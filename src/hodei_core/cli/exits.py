"""What the program says of a job's end: its exit code, and the reason in words."""

from __future__ import annotations

import signal

from hodei_core.events import JobRetried
from hodei_core.results import JobResult
from hodei_core.specs import JobSpec
from hodei_core.states import JobState, Reason

REFUSED = 1
BAD_INPUT = 2
TIMED_OUT = 124
NO_EXIT_CODE = 125
SIGNAL_BASE = 128
BROKEN_PIPE = SIGNAL_BASE + 13
"""What a program ended by SIGPIPE leaves; by number, since not every system has the signal."""


def exit_code(result: JobResult, received: int | None) -> int:
    """Return the program's exit code for a job's end.

    Args:
        result: how the job ended.
        received: the signal that the program was sent and for which it cancelled the job.
    """
    if result.state is JobState.TIMED_OUT:
        return TIMED_OUT
    if result.state is JobState.CANCELLED:
        return NO_EXIT_CODE if received is None else SIGNAL_BASE + received
    return NO_EXIT_CODE if result.exit_code is None else result.exit_code


def in_words(result: JobResult, spec: JobSpec) -> str | None:
    """Return why the job did not succeed; None if its exit code says all there is to say."""
    text = _reason(result, spec)
    attempts = len(result.attempts)
    if attempts < 2 or result.reason in (None, Reason.CANCELLED):
        return text
    return f"{text or f'exit code {result.exit_code}'}; gave up after {attempts} attempts"


def _reason(result: JobResult, spec: JobSpec) -> str | None:
    if result.reason is None or result.reason is Reason.EXIT_CODE:
        return None
    if result.reason is Reason.SIGNALLED and result.exit_code is not None:
        return f"exit code {result.exit_code}: ended by {signal_name(result.exit_code)}"
    text = _WORDS[result.reason]
    if result.reason is Reason.TIMEOUT and spec.timeout is not None:
        text += f" of {spec.timeout.total_seconds():g} s"
    return f"{text}: {result.message}" if result.message else text


_WORDS = {
    Reason.EXIT_CODE: "the job failed",
    Reason.SIGNALLED: "a signal ended the job",
    Reason.OUT_OF_MEMORY: "the job was ended for using more memory than it may",
    Reason.START_FAILED: "the job could not be started",
    Reason.TIMEOUT: "the job was ended at its timeout",
    Reason.PENDING_TIMEOUT: "the job did not start within its pending timeout",
    Reason.CANCELLED: "the job was cancelled",
    Reason.INTERRUPTED: "the job was interrupted by the end of its host",
    Reason.WORKER_LOST: "the worker was lost under the job",
    Reason.POISON: "workers were lost under the job time and again",
    Reason.PROVISION_FAILED: "no worker can be made for the job",
    Reason.UNSCHEDULABLE: "the job cannot run here",
}


def retry_in_words(event: JobRetried) -> str:
    """Return how an attempt ended that another follows, and when."""
    why = "could not start" if event.reason is None else f"failed ({event.reason.name})"
    seconds = max((event.due_at - event.at).total_seconds(), 0.0)
    return f"attempt {event.attempt} {why}; the next follows in {seconds:.1f} s"


def signal_name(code: int) -> str:
    """Return the name of the signal that an exit code above 128 stands for."""
    number = code - SIGNAL_BASE
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
