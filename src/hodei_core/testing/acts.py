"""What scripted jobs do, and what becomes of scripted workers: the words of a script."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TypeAlias

import attrs

from hodei_core.checks import span, whole_number
from hodei_core.executions import Execution
from hodei_core.values import Value

_NO_TIME = timedelta(0)
_EXIT_CODES = range(256)


def _takes(value: float | timedelta) -> timedelta:
    return span("takes", value)


def _start_delay(value: float | timedelta) -> timedelta:
    return span("start_delay", value)


def _delay(value: float | timedelta) -> timedelta:
    return span("delay", value)


def _heartbeat_takes(value: float | timedelta) -> timedelta:
    return span("heartbeat_takes", value)


def _late(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else span("late", value)


def _lost_after(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else span("lost_after", value)


def _silent_after(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else span("silent_after", value)


def _fails(value: int) -> int:
    return whole_number("fails", value, least=0)


def _refuses(value: int) -> int:
    return whole_number("refuses", value, least=0)


def _heartbeat_failures(value: int) -> int:
    return whole_number("heartbeat_failures", value, least=0)


def _end_failures(value: int) -> int:
    return whole_number("end_failures", value, least=0)


def _lines(value: str | bytes | Iterable[str | bytes]) -> tuple[bytes, ...]:
    """Return what is printed, piece by piece: text as lines, bytes as they are."""
    pieces = [value] if isinstance(value, (str, bytes)) else value
    return tuple(
        piece if isinstance(piece, bytes) else f"{piece.removesuffix(chr(10))}\n".encode()
        for piece in pieces
    )


def _exit_code(value: int) -> int:
    if isinstance(value, bool) or value not in _EXIT_CODES:
        msg = f"exit_code must be a whole number from 0 to 255, not {value!r}"
        raise ValueError(msg)
    return value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Act(Value):
    """What a scripted job does; if nothing is said, it ends at once and succeeds.

    Spans are given in seconds or as `timedelta` and follow the clock of the host.

    Raises:
        TypeError, ValueError: a field is not acceptable; the error names it.
    """

    takes: timedelta = attrs.field(default=_NO_TIME, converter=_takes)
    """How long it runs."""

    start_delay: timedelta = attrs.field(default=_NO_TIME, converter=_start_delay)
    """How long it takes to start, once its worker has it."""

    prints: tuple[bytes, ...] = attrs.field(default=(), converter=_lines)
    """Its standard output, spread evenly over its time: text as lines, bytes as they are."""

    warns: tuple[bytes, ...] = attrs.field(default=(), converter=_lines)
    """Its standard error, in the same way."""

    exit_code: int = attrs.field(default=0, converter=_exit_code)
    fails: int = attrs.field(default=0, converter=_fails)
    """So many first attempts exit with 1 instead."""

    ends: bool = True
    """Whether it ever ends by itself."""

    refuses: int = attrs.field(default=0, converter=_refuses)
    """So often it is given back at first, without having started (`NotStartedError`)."""

    cannot_start: str | None = None
    """Why it can never be started (`StartFailedError`)."""

    loses_worker: bool = False
    """Whether its worker is lost under it when its time is over."""

    raises: BaseException | None = None
    """What its session raises when its time is over, whatever the contract says."""

    ignores_end: bool = False
    """Whether it goes on until its grace is over when it is ended."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Making(Value):
    """What becomes of one worker that is asked for; if nothing is said, it is made at once.

    Spans are given in seconds or as `timedelta` and follow the clock of the host.

    Raises:
        TypeError, ValueError: a field is not acceptable; the error names it.
    """

    delay: timedelta = attrs.field(default=_NO_TIME, converter=_delay)
    """How long its making takes."""

    error: BaseException | None = None
    """What its making raises after `delay`; no worker then exists."""

    reply_lost: bool = False
    """Whether it is made, and the provider learns nothing of it and raises."""

    hangs: bool = False
    """Whether its making never ends unless it is cancelled; no worker then exists, or with
    `reply_lost` one does."""

    late: timedelta | None = attrs.field(default=None, converter=_late)
    """How long its making takes, instead of `delay`, and cannot be cancelled: it comes late."""

    duplicate: bool = False
    """Whether the answer is the line to another live worker, and none is made."""

    junk: bool = False
    """Whether it is made, and the answer is no line to it."""

    lost_after: timedelta | None = attrs.field(default=None, converter=_lost_after)
    """So long after it is served, it is gone."""

    silent_after: timedelta | None = attrs.field(default=None, converter=_silent_after)
    """So long after it is served, nothing is heard of it, and it is not known to be gone."""

    loss: BaseException | None = None
    """What the line raises when the worker is lost; None: `WorkerLostError`."""

    heartbeat_takes: timedelta = attrs.field(default=_NO_TIME, converter=_heartbeat_takes)
    """How long it takes to answer."""

    heartbeat_failures: int = attrs.field(default=0, converter=_heartbeat_failures)
    """So many first heartbeats raise `heartbeat_error`."""

    heartbeat_error: BaseException | None = None
    """None: an `OSError`, which says nothing of the worker."""

    end_failures: int = attrs.field(default=0, converter=_end_failures)
    """So often its end, by `terminate` or `discard`, raises `end_error` at first."""

    end_error: BaseException | None = None
    """None: an `OSError`."""

    end_hangs: bool = False
    """Whether its end is never confirmed, unless the provider closes."""


Acts: TypeAlias = Act | Mapping[str, Act] | Callable[[Execution], Act]
Makings: TypeAlias = Making | Sequence[Making] | Callable[[int], Making]

ACT = Act()


def act_of(acts: Acts, execution: Execution) -> Act:
    """Return what a job does, by its name, or else by its command."""
    if isinstance(acts, Act):
        return acts
    if not isinstance(acts, Mapping):
        return acts(execution)
    spec = execution.spec
    command = spec.command if isinstance(spec.command, str) else shlex.join(spec.command)
    named = None if spec.name is None else acts.get(spec.name)
    return named or acts.get(command, ACT)


def making_of(makings: Makings, asked: int) -> Making:
    """Return what becomes of the worker that is asked for as the so-manieth."""
    if isinstance(makings, Making):
        return makings
    if isinstance(makings, Sequence):
        return makings[min(asked, len(makings)) - 1]
    return makings(asked)
