"""The options that describe a job, and the `JobSpec` they make."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar, cast

import click

from hodei_core.checks import MAX_SPAN, MOST
from hodei_core.compat import override
from hodei_core.errors import InvalidJobError
from hodei_core.resources import Resources
from hodei_core.retry import Backoff, RetryPolicy
from hodei_core.specs import MAX_STDIN_BYTES, Command, JobFields, JobSpec

_SPAN = re.compile(r"([+-]?\d*\.?\d+)\s*(ms|s|m|h|d)?")
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def span(value: str) -> float:
    """Return the seconds that a text means: a number, alone or with one of ms, s, m, h, d."""
    match = _SPAN.fullmatch(value)
    if match is None:
        msg = f"{value!r} is no span of time; write it as 30, 1.5, 500ms, 2m, 1h or 1d"
        raise click.BadParameter(msg)
    return float(match.group(1)) * _SECONDS[match.group(2)]


def waiting_span(value: str) -> float:
    """Return the seconds of a span that the library can wait for or look back.

    Raises:
        click.BadParameter: it is none, is negative or too long.
    """
    seconds = span(value)
    if not 0 <= seconds <= MAX_SPAN.total_seconds():
        msg = f"must be 0 or more and at most {MAX_SPAN.days}d, not {value}"
        raise click.BadParameter(msg)
    return seconds


def pair(value: str) -> tuple[str, str]:
    """Return the parts of `NAME=VALUE`."""
    name, equals, content = value.partition("=")
    if not equals:
        raise click.BadParameter(f"{value!r} has no '='; write it as NAME=VALUE")
    return name, content


def variable(value: str) -> tuple[str, str]:
    """Return the parts of `NAME=VALUE`; NAME alone stands for the variable of this process."""
    if "=" in value:
        return pair(value)
    if value not in os.environ:
        raise click.BadParameter(f"{value!r} is not set here; set it, or write NAME=VALUE")
    return value, os.environ[value]


def words(value: str) -> tuple[str, ...]:
    """Return the words of a text in the quoting of a shell."""
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from error


COUNT = click.IntRange(min=1, max=MOST)
"""A number of things, at least one."""

NUMBER = click.IntRange(min=0, max=MOST)
"""A number of things, or the number of one."""

_PIECE_BYTES = 1024 * 1024

F = TypeVar("F", bound=Callable[..., Any])


class _InputFile(click.File):
    """A file to be read, or this program's own input, which may be closed."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except RuntimeError:
            self.fail("our own input is closed", param, ctx)


_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--name", {"metavar": "TEXT", "help": "A name for people."}),
    (
        "--env",
        {
            "type": variable,
            "multiple": True,
            "metavar": "NAME[=VALUE]",
            "help": "A variable of the job's environment; NAME alone passes ours on. Repeatable.",
        },
    ),
    ("--cwd", {"metavar": "DIR", "help": "The job's working directory. Default: this one."}),
    (
        "--stdin",
        {
            "type": _InputFile("rb"),
            "metavar": "FILE",
            "help": "The job's input, 16 MiB at most; - is our own input, read to its end "
            "before the job starts. Default: empty.",
        },
    ),
    (
        "--shell",
        {
            "type": words,
            "metavar": "WORDS",
            "help": "What runs a command of one word. Default: 'sh -c'.",
        },
    ),
    ("--image", {"metavar": "IMAGE", "help": "The container image that the job needs."}),
    ("--cpus", {"type": float, "metavar": "N", "help": "CPUs it needs. Default: 1."}),
    ("--memory", {"metavar": "SIZE", "help": "Memory it needs, as 512MiB or 2GB."}),
    (
        "--timeout",
        {"type": span, "metavar": "TIME", "help": "End an attempt that runs for longer."},
    ),
    (
        "--pending-timeout",
        {"type": span, "metavar": "TIME", "help": "Give up if it has not started by then."},
    ),
    ("--delay", {"type": span, "metavar": "TIME", "help": "Start no earlier than this."}),
    (
        "--max-attempts",
        {"type": int, "metavar": "N", "help": "Attempts in all if it fails. Default: 1."},
    ),
    (
        "--backoff",
        {
            "type": span,
            "metavar": "TIME",
            "help": "The pause before the second attempt; it doubles each time. Default: 1s.",
        },
    ),
    ("--priority", {"type": int, "metavar": "N", "help": "Higher goes first. Default: 0."}),
    (
        "--label",
        {
            "type": pair,
            "multiple": True,
            "metavar": "NAME=VALUE",
            "help": "A mark of your own, for finding jobs. Repeatable.",
        },
    ),
    (
        "--require",
        {
            "type": pair,
            "multiple": True,
            "metavar": "NAME=VALUE",
            "help": "A label that the worker must have. Repeatable.",
        },
    ),
    ("--provider", {"metavar": "NAME", "help": "The one provider that may run it, as local."}),
    ("--prefers", {"metavar": "NAME", "help": "The provider that runs it if it can now."}),
    (
        "--key",
        {"metavar": "TEXT", "help": "Idempotency: a second job of this key is the first one."},
    ),
    (
        "--grace",
        {
            "type": span,
            "metavar": "TIME",
            "help": "From SIGTERM to SIGKILL when it is ended. Default: 5s.",
        },
    ),
    (
        "--format",
        {
            "type": click.Choice(["text", "json"]),
            "default": "text",
            "help": "json: one object a line, each log entry and then the result.",
        },
    ),
)

_FIELD_OPTIONS = {
    "labels": "--label",
    "requires": "--require",
    "resources.cpus": "--cpus",
    "resources.memory": "--memory",
    "retry.max_attempts": "--max-attempts",
    "retry.backoff.first": "--backoff",
    "retry.backoff.max": "--backoff",
}


def job_options(command: F) -> F:
    """Give a command the options that describe a job."""
    for name, settings in reversed(_OPTIONS):
        command = click.option(name, **settings)(command)
    return command


def make_spec(command: Command, options: dict[str, Any], *, command_hint: str) -> JobSpec:
    """Return the spec that the options describe.

    Args:
        command: what to run.
        options: values by the names of the options.
        command_hint: what the user calls the command, for messages.

    Raises:
        click.BadParameter: a value is not acceptable; the message names the option.
    """
    if options["backoff"] is not None and options["max_attempts"] is None:
        raise click.UsageError("'--backoff' is the pause between attempts: give '--max-attempts'")
    try:
        return JobSpec(command, **_fields(options))
    except InvalidJobError as error:
        option = _FIELD_OPTIONS.get(error.field) or f"--{error.field.replace('_', '-')}"
        hint = command_hint if error.field == "command" else f"'{option}'"
        problem = str(error).removeprefix(f"{error.field}: ")
        raise click.BadParameter(problem, param_hint=hint) from error


def _fields(options: dict[str, Any]) -> JobFields:
    fields: dict[str, Any] = {name: options[name] for name in _PLAIN if options[name] is not None}
    fields["env"] = dict(options["env"])
    fields["labels"] = dict(options["label"])
    fields["requires"] = dict(options["require"])
    if options["stdin"] is not None:
        fields["stdin"] = _read(options["stdin"])
    cpus = 1.0 if options["cpus"] is None else options["cpus"]
    fields["resources"] = Resources(cpus, options["memory"])
    if options["max_attempts"] is not None:
        first = 1.0 if options["backoff"] is None else options["backoff"]
        backoff = Backoff(first=first, max=max(first, Backoff().max.total_seconds()))
        fields["retry"] = RetryPolicy(max_attempts=options["max_attempts"], backoff=backoff)
    return cast("JobFields", fields)


_PLAIN = (
    "name",
    "cwd",
    "shell",
    "image",
    "timeout",
    "pending_timeout",
    "delay",
    "priority",
    "provider",
    "prefers",
    "key",
    "grace",
)


def _read(file: BinaryIO) -> bytes:
    """Return the content of a file that is no larger than a job may take."""
    data = bytearray()
    try:
        # In pieces: within one long read, Ctrl-C may be noted and then wait for more input.
        while len(data) <= MAX_STDIN_BYTES and (
            piece := os.read(file.fileno(), min(_PIECE_BYTES, MAX_STDIN_BYTES + 1 - len(data)))
        ):
            data += piece
    except OSError as error:
        raise click.BadParameter(str(error), param_hint="'--stdin'") from error
    if len(data) > MAX_STDIN_BYTES:
        msg = f"{file.name!r} has more than the {MAX_STDIN_BYTES} bytes that a job takes"
        raise click.BadParameter(msg, param_hint="'--stdin'")
    return bytes(data)
