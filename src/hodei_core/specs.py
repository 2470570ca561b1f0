"""The request for a job: what to run, where, and under which rules.

Longer than other modules: each field has its check beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import TypeAlias, TypedDict, Union

import attrs

from hodei_core.checks import MAX_SPAN
from hodei_core.clock import to_timedelta
from hodei_core.errors import InvalidJobError, shown
from hodei_core.frozendict import EMPTY, FrozenDict
from hodei_core.resources import Resources
from hodei_core.retry import RetryPolicy, is_whole
from hodei_core.values import Value

Command: TypeAlias = Union[str, Sequence[Union[str, "os.PathLike[str]"]]]  # noqa: UP007 - evaluated on 3.10
"""A shell text (`str`), or an argument vector that no shell ever sees."""

MAX_TEXT_BYTES = 1024 * 1024
"""The most that command, env, labels and name may take together."""

MAX_STDIN_BYTES = 16 * 1024 * 1024
"""The most that `stdin` may take."""

RESERVED_LABEL_PREFIX = "hodei."
RESERVED_ENV_PREFIX = "HODEI_"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_MAX_PRIORITY = 2**31 - 1
_MAX_CPUS = 1_000_000
_MAX_MEMORY = 2**60  # far below what a store's 64 bits hold
_ZERO = timedelta(0)
_GRACE = timedelta(seconds=5)
_RESOURCES = Resources()
_RETRY = RetryPolicy()
_SHELL = ("sh", "-c")


def _error(field: str, problem: str) -> InvalidJobError:
    return InvalidJobError(f"{field}: {problem}", field=field)


def _flaw(value: object) -> str | None:
    """Return what is wrong with a text that a process is given, or None."""
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    if "\0" in value:
        return "must not contain a NUL character"
    if not value.isascii():
        try:
            os.fsencode(value)
        except UnicodeEncodeError:
            return "holds a character that the system cannot encode"
    return None


def _plain_flaw(value: object) -> str | None:
    """Return what is wrong with a text that is shown in one line, or None."""
    if flaw := _flaw(value):
        return flaw
    if isinstance(value, str) and not value.isprintable() and _CONTROL.search(value):
        return "must not contain a control character"
    return None


def _command(value: Command) -> str | tuple[str, ...]:
    if not isinstance(value, str):
        return _arguments("command", value)
    if flaw := _flaw(value):
        raise _error("command", flaw)
    if not value or value.isspace():
        raise _error("command", "must not be empty")
    return value


def _shell(value: Sequence[str]) -> tuple[str, ...]:
    return _SHELL if value is _SHELL else _arguments("shell", value)


def _arguments(field: str, value: object) -> tuple[str, ...]:
    if isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Sequence):
        wanted = "text or a sequence of texts" if field == "command" else "a sequence of texts"
        raise _error(field, f"must be {wanted}, not {type(value).__name__}")
    arguments = tuple([os.fspath(v) if isinstance(v, os.PathLike) else v for v in value])
    for number, argument in enumerate(arguments):
        if flaw := _flaw(argument):
            raise _error(field, f"item {number} {flaw}")
    if not arguments or not arguments[0]:
        raise _error(field, "must not be empty")
    return arguments


def _plain(field: str, value: str) -> str:
    if flaw := _plain_flaw(value):
        raise _error(field, flaw)
    if not value:
        raise _error(field, "must not be empty")
    return value


def _name(value: str | None) -> str | None:
    return None if value is None else _plain("name", value)


def _image(value: str | None) -> str | None:
    return None if value is None else _plain("image", value)


def _provider(value: str | None) -> str | None:
    return None if value is None else _plain("provider", value)


def _prefers(value: str | None) -> str | None:
    return None if value is None else _plain("prefers", value)


def _key(value: str | None) -> str | None:
    return None if value is None else _plain("key", value)


def _cwd(value: str | os.PathLike[str] | None) -> str | None:
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if flaw := _flaw(path):
        raise _error("cwd", flaw)
    if not path:
        raise _error("cwd", "must not be empty")
    return path


def _stdin(value: bytes | None) -> bytes | None:
    return None if value is None else _data(value)


def _data(value: object) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise _error("stdin", f"must be bytes, not {type(value).__name__}")
    size = value.nbytes if isinstance(value, memoryview) else len(value)
    if size > MAX_STDIN_BYTES:
        raise _error("stdin", f"has {size} bytes; at most {MAX_STDIN_BYTES} are taken")
    return bytes(value)


def _span(field: str, value: float | timedelta, least: str = "0 or more") -> timedelta:
    try:
        span = to_timedelta(value)
    except (TypeError, ValueError) as error:
        raise _error(field, str(error)) from None
    if span < _ZERO:
        raise _error(field, f"must be {least} seconds, not {shown(value)}")
    if span > MAX_SPAN:
        raise _error(field, f"must be at most {MAX_SPAN.days} days, not {shown(value)}")
    return span


def _limit(field: str, value: float | timedelta) -> timedelta:
    span = _span(field, value, least="more than 0")
    if not span:
        raise _error(field, f"must be more than 0 seconds, not {shown(value)}")
    return span


def _timeout(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else _limit("timeout", value)


def _pending_timeout(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else _limit("pending_timeout", value)


def _delay(value: float | timedelta | None) -> timedelta | None:
    return None if value is None else _span("delay", value)


def _grace(value: float | timedelta) -> timedelta:
    return _GRACE if value is _GRACE else _span("grace", value)


def _mapping(field: str, value: object) -> FrozenDict[str]:
    if not isinstance(value, Mapping):
        raise _error(field, f"must be a mapping of text to text, not {type(value).__name__}")
    items = FrozenDict(value)
    for name in items:
        if flaw := _plain_flaw(name):
            raise _error(field, f"the name {shown(name)} {flaw}")
        if not name:
            raise _error(field, "must not have an empty name")
    return items or EMPTY


def _env(value: Mapping[str, str]) -> FrozenDict[str]:
    if value is EMPTY:
        return EMPTY
    env = _mapping("env", value)
    for name, content in env.items():
        if "=" in name:
            raise _error("env", f"the name {shown(name)} must not contain '='")
        if name.startswith(RESERVED_ENV_PREFIX):
            raise _error("env", f"the name {shown(name)} is reserved ({RESERVED_ENV_PREFIX}*)")
        if flaw := _flaw(content):
            raise _error("env", f"the value of {shown(name)} {flaw}")
    return env


def _marks(field: str, value: Mapping[str, str]) -> FrozenDict[str]:
    marks = _mapping(field, value)
    for name, content in marks.items():
        if flaw := _plain_flaw(content):
            raise _error(field, f"the value of {shown(name)} {flaw}")
    return marks


def _labels(value: Mapping[str, str]) -> FrozenDict[str]:
    if value is EMPTY:
        return EMPTY
    labels = _marks("labels", value)
    for name in labels:
        if name.startswith(RESERVED_LABEL_PREFIX):
            raise _error("labels", f"the name {shown(name)} is reserved ({RESERVED_LABEL_PREFIX}*)")
    return labels


def _requires(value: Mapping[str, str]) -> FrozenDict[str]:
    return EMPTY if value is EMPTY else _marks("requires", value)


def _priority(value: int) -> int:
    if not (is_whole(value) and -_MAX_PRIORITY <= value <= _MAX_PRIORITY):
        raise _error(
            "priority", f"must be a whole number within ±{_MAX_PRIORITY}, not {shown(value)}"
        )
    return value


def _resources(value: Resources) -> Resources:
    if value is _RESOURCES:
        return value
    if not isinstance(value, Resources):
        raise _error("resources", f"must be Resources, not {type(value).__name__}")
    if value.cpus > _MAX_CPUS:
        raise _error("resources.cpus", f"must be at most {_MAX_CPUS}, not {value.cpus:g}")
    if value.memory is not None and value.memory > _MAX_MEMORY:
        raise _error("resources.memory", f"must be at most {_MAX_MEMORY} bytes")
    return value


def _retry(value: RetryPolicy) -> RetryPolicy:
    if not isinstance(value, RetryPolicy):
        raise _error("retry", f"must be a RetryPolicy, not {type(value).__name__}")
    return value


def _encoded_size(text: str) -> int:
    return len(text) if text.isascii() else len(os.fsencode(text))


@attrs.frozen(weakref_slot=False, eq=False, repr=False)
class JobSpec(Value):
    """The frozen request for a job; checked and converted when made.

    Hashable and picklable. Command, env, labels and name take 1 MiB together at most.

    Raises:
        InvalidJobError: a value is not acceptable; the error names the field.
        TypeError: there is no such field.
    """

    command: str | tuple[str, ...] = attrs.field(converter=_command)
    """Text is run by `shell`; a sequence is an argument vector that no shell ever sees."""

    name: str | None = attrs.field(default=None, kw_only=True, converter=_name)
    """A name for people; need not be unique."""

    env: Mapping[str, str] = attrs.field(default=EMPTY, kw_only=True, converter=_env, repr=False)
    """Variables added to the environment that the provider gives."""

    cwd: str | None = attrs.field(default=None, kw_only=True, converter=_cwd)
    """The working directory, relative to the provider's; None: the provider's."""

    stdin: bytes | None = attrs.field(default=None, kw_only=True, converter=_stdin, repr=False)
    """The job's whole input, 16 MiB at most; None: empty."""

    shell: tuple[str, ...] = attrs.field(default=_SHELL, kw_only=True, converter=_shell)
    """What runs a command that is text, which follows as the last argument."""

    image: str | None = attrs.field(default=None, kw_only=True, converter=_image)
    """The container image it needs; None: it needs none."""

    resources: Resources = attrs.field(default=_RESOURCES, kw_only=True, converter=_resources)
    """What it takes of its worker, besides a slot."""

    timeout: timedelta | None = attrs.field(default=None, kw_only=True, converter=_timeout)
    """How long one attempt may run from its start; seconds or a timedelta."""

    pending_timeout: timedelta | None = attrs.field(
        default=None, kw_only=True, converter=_pending_timeout
    )
    """How long it may wait from when it is due to its first start; seconds or a timedelta."""

    retry: RetryPolicy = attrs.field(default=_RETRY, kw_only=True, converter=_retry)
    """Whether a failed attempt is followed by another."""

    priority: int = attrs.field(default=0, kw_only=True, converter=_priority)
    """Higher goes first; equal ones go in the order of submission."""

    delay: timedelta | None = attrs.field(default=None, kw_only=True, converter=_delay)
    """How long after its submission it becomes due; seconds or a timedelta."""

    labels: Mapping[str, str] = attrs.field(default=EMPTY, kw_only=True, converter=_labels)
    """The user's own marks, for finding jobs; names with `hodei.` in front are reserved."""

    requires: Mapping[str, str] = attrs.field(default=EMPTY, kw_only=True, converter=_requires)
    """Labels that the worker must have."""

    provider: str | None = attrs.field(default=None, kw_only=True, converter=_provider)
    """The one provider that may run it; None: any."""

    prefers: str | None = attrs.field(default=None, kw_only=True, converter=_prefers)
    """The provider that runs it if it can now: has a worker free, or can make one."""

    key: str | None = attrs.field(default=None, kw_only=True, converter=_key)
    """Idempotency: a second submit with the key returns the first job."""

    grace: timedelta = attrs.field(default=_GRACE, kw_only=True, converter=_grace)
    """The time from SIGTERM to SIGKILL when it is ended; seconds or a timedelta."""

    def __attrs_post_init__(self) -> None:
        # Characters are counted first: none takes more than four bytes, and most jobs are small.
        command = self.command
        count = len(command) if isinstance(command, str) else sum(map(len, command))
        if self.name is not None:
            count += len(self.name)
        if self.env is EMPTY and self.labels is EMPTY and 4 * count <= MAX_TEXT_BYTES:
            return
        sizes = self._text_sizes(_encoded_size)
        size = sum(sizes.values())
        if size > MAX_TEXT_BYTES:
            raise _error(
                max(sizes, key=sizes.__getitem__),
                f"command, env, labels and name take {size} bytes together; "
                f"at most {MAX_TEXT_BYTES} are taken",
            )

    def _text_sizes(self, measure: Callable[[str], int]) -> dict[str, int]:
        command = self.command
        sizes = {
            "command": measure(command) if isinstance(command, str) else sum(map(measure, command))
        }
        if self.name is not None:
            sizes["name"] = measure(self.name)
        if self.env is not EMPTY:
            sizes["env"] = sum(measure(k) + measure(v) for k, v in self.env.items())
        if self.labels is not EMPTY:
            sizes["labels"] = sum(measure(k) + measure(v) for k, v in self.labels.items())
        return sizes

    def argv(self) -> tuple[str, ...]:
        """Return the argument vector to run: the command itself, or its shell with the text."""
        if isinstance(self.command, str):
            return (*self.shell, self.command)
        return self.command

    def same_work(self, other: JobSpec) -> bool:
        """Return whether both ask for the same: all but priority, delay and labels is equal."""
        return bool(_work(self) == _work(other))


_NOT_WORK = {"priority", "delay", "labels"}
_work = attrgetter(*(f.name for f in attrs.fields(JobSpec) if f.name not in _NOT_WORK))


class JobFields(TypedDict, total=False):
    """The keyword arguments of `submit`: the fields of `JobSpec` in their input types."""

    name: str | None
    env: Mapping[str, str]
    cwd: str | os.PathLike[str] | None
    stdin: bytes | None
    shell: Sequence[str]
    image: str | None
    resources: Resources
    timeout: float | timedelta | None
    pending_timeout: float | timedelta | None
    retry: RetryPolicy
    priority: int
    delay: float | timedelta | None
    labels: Mapping[str, str]
    requires: Mapping[str, str]
    provider: str | None
    prefers: str | None
    key: str | None
    grace: float | timedelta
