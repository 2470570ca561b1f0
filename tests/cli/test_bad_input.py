from __future__ import annotations

import subprocess

import attrs
import click
import pytest
from click.testing import CliRunner, Result

from hodei_core import JobSpec, Resources
from hodei_core.backends.local import LocalProvider
from hodei_core.cli.options import make_spec, span
from hodei_core.cli.program import hodei, job_run
from hodei_core.cli.program import run as run_command
from tests.cli.helpers import HODEI, run

TOO_MUCH = "x" * (1024 * 1024 + 1)


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a job was run")

    monkeypatch.setattr(LocalProvider, "__init__", refuse)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(hodei, arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a\nb"], "'--name': must not contain a control character"),
        (["--name", ""], "'--name': must not be empty"),
        (["--env", "NO_SUCH_VARIABLE"], "'--env': 'NO_SUCH_VARIABLE' is not set here"),
        (["--env", "HODEI_X=1"], "'--env': the name 'HODEI_X' is reserved"),
        (["--env", "=1"], "'--env': must not have an empty name"),
        (["--env", f"A={TOO_MUCH}"], "'--env': command, env, labels and name take"),
        (["--cwd", ""], "'--cwd': must not be empty"),
        (["--stdin", "/no/such/file"], "'--stdin': '/no/such/file': No such file or directory"),
        (["--stdin", "/"], "'--stdin': '/': Is a directory"),
        (["--stdin", "/dev/zero"], "'--stdin': '/dev/zero' has more than the 16777216 bytes"),
        (["--shell", ""], "'--shell': must not be empty"),
        (["--shell", "'a"], "'--shell': \"'a\": No closing quotation"),
        (["--image", ""], "'--image': must not be empty"),
        (["--cpus", "-1"], "'--cpus': must be 0 or more and finite, not -1.0"),
        (["--cpus", "many"], "'--cpus': 'many' is not a valid float"),
        (["--cpus", "1e308"], "'--cpus': must be at most"),
        (["--memory", "99999999TiB"], "'--memory': must be at most"),
        (["--memory", "12 parsecs"], "'--memory': '12 parsecs' is no size"),
        (["--timeout", "0"], "'--timeout': must be more than 0 seconds"),
        (["--timeout", "-5"], "'--timeout': must be more than 0 seconds"),
        (["--timeout", "soon"], "'--timeout': 'soon' is no span of time; write it as 30"),
        (["--timeout", "1y"], "'--timeout': '1y' is no span of time"),
        (["--timeout", "9" * 400], "'--timeout': "),
        (["--pending-timeout", "0s"], "'--pending-timeout': must be more than 0 seconds"),
        (["--delay", "-1s"], "'--delay': must be 0 or more seconds"),
        (["--max-attempts", "0"], "'--max-attempts': must be a whole number from 1"),
        (["--max-attempts", "1.5"], "'--max-attempts': '1.5' is not a valid integer"),
        (["--max-attempts", "2", "--backoff", "-1"], "'--backoff': must not be negative"),
        (["--backoff", "1"], "'--backoff' is the pause between attempts: give '--max-attempts'"),
        (["--priority", "9999999999"], "'--priority': must be a whole number within"),
        (["--label", "a"], "'--label': 'a' has no '='"),
        (["--label", "hodei.a=1"], "'--label': the name 'hodei.a' is reserved"),
        (["--require", "a"], "'--require': 'a' has no '='"),
        (["--require", "a=\n"], "'--require': the value of 'a' must not contain a control"),
        (["--provider", ""], "'--provider': must not be empty"),
        (["--key", "\t"], "'--key': must not contain a control character"),
        (["--grace", "-1"], "'--grace': must be 0 or more seconds"),
        (["--format", "xml"], "'--format': 'xml' is not one of 'text', 'json'"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("command", [["run"], ["job", "run", "--command", "true"]], ids=len)
def test_a_bad_option_is_named_and_nothing_is_run(
    command: list[str], arguments: list[str], message: str
) -> None:
    result = invoke(*command, *arguments, *(["true"] if command == ["run"] else []))
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.startswith(f"Usage: hodei {command[0]} ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'CMD [ARG]...'"),
        (["run", "  "], "'CMD [ARG]...': must not be empty"),
        (["run", "", "x"], "'CMD [ARG]...': must not be empty"),
        (["job", "run"], "Missing option '--command'"),
        (["job", "run", "--command", ""], "'--command': must not be empty"),
        (["job", "run", "--command", "true", "more"], "unexpected extra argument"),
        (["run", "--no-such-option", "true"], "--no-such-option"),
        (["no-such-command"], "No such command 'no-such-command'"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_a_bad_command_line_is_refused(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_an_input_of_our_own_that_is_closed_is_refused() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *HODEI, "run", "--stdin", "-", "cat"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.endswith(b"'--stdin': our own input is closed\n")


def test_the_program_itself_leaves_2_and_says_why_on_standard_error() -> None:
    ended = run("run", "--timeout", "0", "true")
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith("Usage: hodei run [OPTIONS] [--] CMD [ARG]...\n")
    assert ended.err.endswith(
        "\nError: Invalid value for '--timeout': must be more than 0 seconds, not 0.0\n"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("1.5", 1.5),
        (".5s", 0.5),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1d", 86400),
    ],
)
def test_a_span_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert span(text) == seconds


def _spec(*arguments: str) -> JobSpec:
    with run_command.make_context("run", [*arguments, "true"]) as context:
        options = dict(context.params)
        (command,) = options.pop("command")
        return make_spec(command, options, command_hint="x")


VALUES = {
    "name": ("--name", "n", "n"),
    "env": ("--env", "A=b", {"A": "b"}),
    "cwd": ("--cwd", "d", "d"),
    "stdin": ("--stdin", "/dev/null", b""),
    "shell": ("--shell", "bash -c", ("bash", "-c")),
    "image": ("--image", "i", "i"),
    "resources": ("--memory", "1KiB", Resources(1, 1024)),
    "timeout": ("--timeout", "2", attrs.evolve(JobSpec("x"), timeout=2).timeout),
    "pending_timeout": ("--pending-timeout", "2", attrs.evolve(JobSpec("x"), timeout=2).timeout),
    "delay": ("--delay", "2", attrs.evolve(JobSpec("x"), timeout=2).timeout),
    "priority": ("--priority", "-3", -3),
    "labels": ("--label", "a=b=c", {"a": "b=c"}),
    "requires": ("--require", "a=b", {"a": "b"}),
    "provider": ("--provider", "p", "p"),
    "prefers": ("--prefers", "local", "local"),
    "key": ("--key", "k", "k"),
    "grace": ("--grace", "2", attrs.evolve(JobSpec("x"), timeout=2).timeout),
}


@pytest.mark.parametrize("field", [f.name for f in attrs.fields(JobSpec) if f.name != "command"])
def test_each_field_of_a_job_has_an_option(field: str) -> None:
    if field == "retry":
        retry = _spec("--max-attempts", "3", "--backoff", "20m").retry
        assert retry.max_attempts == 3
        assert retry.backoff.first.total_seconds() == 1200
        assert retry.backoff.max.total_seconds() == 1200
        return
    option, value, expected = VALUES[field]
    spec = _spec(option, value)
    assert getattr(spec, field) == expected
    assert getattr(spec, field) != getattr(JobSpec("true"), field)


def test_cpus_is_a_need() -> None:
    assert _spec("--cpus", "0.5").resources == Resources(0.5)


def test_without_options_a_job_is_what_the_library_makes_of_it() -> None:
    assert _spec() == JobSpec("true")


def test_both_commands_have_the_same_options() -> None:
    def options(command: click.Command) -> set[str]:
        return {o for p in command.params if isinstance(p, click.Option) for o in p.opts}

    assert options(job_run) - {"--command"} == options(run_command)
