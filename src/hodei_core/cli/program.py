"""The commands and their help."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import Any, TypeVar

import anyio
import click

from hodei_core.cli.asking import ask
from hodei_core.cli.console import Console
from hodei_core.cli.exits import SIGNAL_BASE
from hodei_core.cli.job_commands import JOB_COMMANDS, submit
from hodei_core.cli.options import job_options, make_spec
from hodei_core.cli.running import run_job
from hodei_core.cli.shows import DecoratedShow, JsonShow, PlainShow, Show
from hodei_core.cli.store_commands import STORE_COMMANDS
from hodei_core.cli.stores import store_option
from hodei_core.specs import Command

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_EXIT_CODES = """\b
Exit code:
  the job's      0-255; 128 + n if signal n ended it
  2              bad input: nothing was run
  124            the job ran longer than its --timeout
  125            the job ended without an exit code; the reason is on standard error
  130, 143       after Ctrl-C, SIGTERM: the job is ended (SIGTERM, --grace, SIGKILL),
                 a second Ctrl-C kills it at once
"""

_GROUP_EPILOG = """\b
Examples:
  hodei run 'echo hello | tr a-z A-Z'       a shell text
  hodei run -- ls -l /tmp                   arguments, with no shell between
  hodei run --timeout 5m make test          ends after five minutes at the latest
  hodei job run --name first --command 'echo hello'
  hodei host --store jobs.db                runs the jobs of a store until Ctrl-C
  hodei run --store jobs.db --detach 'make test'
  hodei job list --store jobs.db --state failed
"""

_RUN_EPILOG = f"""\b
Examples:
  hodei run 'sort data | uniq -c' > counts
  hodei run -- grep -r TODO src             several words are arguments: no shell
  hodei run --timeout 30s --max-attempts 3 'curl -fsS localhost:8000/health'
  hodei run --stdin - --env LANG=C 'sort' < data
  hodei run --shell 'bash -euo pipefail -c' 'false | true'
  hodei run --format json make | jq -r 'select(.source == "stderr").text'

{_EXIT_CODES}"""

_JOB_RUN_EPILOG = f"""\b
Examples:
  hodei job run --name build --command 'make all'
  hodei job run --command './flaky.sh' --max-attempts 5 --backoff 500ms

{_EXIT_CODES}"""


F = TypeVar("F", bound=Callable[..., Any])


def _where_it_runs(command: F) -> F:
    """Give a command `--store` and `--detach`."""
    detach = click.option(
        "--detach", is_flag=True, help="Print the id and leave; a host of the store runs the job."
    )
    return store_option(makes=True, needed=False)(detach(command))


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    try:
        version = metadata.version("hodei-core")
    except metadata.PackageNotFoundError:
        version = "of a checkout that is not installed"
    click.echo(f"hodei {version}")
    context.exit()


@click.group(context_settings=_CONTEXT, epilog=_GROUP_EPILOG)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def hodei() -> None:
    """Run commands as jobs: with a timeout, retries, and nothing left behind.

    Each command runs on this machine, in a process tree that ends with the job, or with this
    program, however it goes. With --store FILE, or HODEI_STORE set to it, jobs are kept in a
    file that several programs share: `hodei host` runs them, others submit, list and read.
    """


@hodei.command(
    epilog=_RUN_EPILOG,
    context_settings={"allow_interspersed_args": False},
    options_metavar="[OPTIONS] [--]",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD [ARG]...")
@job_options
@_where_it_runs
@click.pass_context
def run(context: click.Context, /, command: tuple[str, ...], **options: Any) -> None:
    """Run a command; its output is this program's output.

    One word is a text for a shell, several words are a program and its arguments. Options end
    at the first word, or at `--`.

    The job's standard output comes out byte for byte, line by line as it is written; its
    standard error, and messages of this program, on standard error. The job gets PATH, HOME,
    LANG and the like of this environment; other variables have to be passed with --env.
    """
    words = command[0] if len(command) == 1 else command
    context.exit(_run(words, options, PlainShow, "'CMD [ARG]...'"))


@hodei.group()
def job() -> None:
    """Run, list, show, follow, cancel, explain, retry and delete jobs.

    Where an ID is asked for, its first characters will do, four at least.
    """


@job.command("run", epilog=_JOB_RUN_EPILOG)
@click.option("--command", required=True, metavar="TEXT", help="What to run, by a shell.")
@job_options
@_where_it_runs
@click.pass_context
def job_run(context: click.Context, /, command: str, **options: Any) -> None:
    """Run a shell text; show each line with time and source.

    Ends with a summary: state, exit code, lines, seconds.
    """
    context.exit(_run(command, options, DecoratedShow, "'--command'"))


def _run(command: Command, options: dict[str, Any], form: type[Show], hint: str) -> int:
    file, detach = options.pop("file"), options.pop("detach")
    if file is not None:
        options["cwd"] = _directory_for_others(options)
    spec = make_spec(command, options, command_hint=hint)
    if detach:
        if file is None:
            raise click.UsageError("'--detach' leaves the job in a store: name it by --store")
        return ask(file, partial(submit, spec=spec, form=options["format"]))
    if options["format"] == "json":
        form = JsonShow
    console = Console("❌" if form is DecoratedShow else "hodei:")
    return anyio.run(run_job, spec, form(console), file)


def _directory_for_others(options: dict[str, Any]) -> str | None:
    """Return the job's directory, which is not that of the host that may run it."""
    given: str | None = options["cwd"]
    if options["image"] is not None or given == "":
        return given
    try:
        return os.path.abspath(given or ".")
    except FileNotFoundError:  # the directory that we are in was deleted
        return given


for _command in JOB_COMMANDS:
    job.add_command(_command)
for _command in STORE_COMMANDS:
    hodei.add_command(_command)


def run_program(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    _fill_standard_descriptors()
    try:
        code = hodei.main(arguments, prog_name="hodei", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # made of KeyboardInterrupt
        return SIGNAL_BASE + signal.SIGINT
    return code if isinstance(code, int) else 0


def _fill_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2, before another file takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
