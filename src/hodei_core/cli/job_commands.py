"""`hodei job list`, `get`, `logs`, `cancel`, `explain`, `retry`, `prune`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
import click

from hodei_core.cli.asking import Client, RefusedError, ask, beside, job_id
from hodei_core.cli.exits import REFUSED
from hodei_core.cli.hosts import HostWatch
from hodei_core.cli.options import COUNT, NUMBER, pair, waiting_span
from hodei_core.cli.records import explanation_fields, job_fields, result_fields
from hodei_core.cli.shows import JsonShow, PlainShow
from hodei_core.cli.stores import StoreFile, store_option
from hodei_core.errors import HodeiError, JobNotFoundError
from hodei_core.handle import JobHandle
from hodei_core.logs import LogSource
from hodei_core.results import JobResult
from hodei_core.specs import JobSpec
from hodei_core.states import JobState

F = TypeVar("F", bound=Callable[..., Any])

_LOOK_SECONDS = 1.0
_SOURCES = {"stdout": LogSource.STDOUT, "stderr": LogSource.STDERR}


def format_option(command: F) -> F:
    """Give a command `--format`."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["text", "json"]),
        default="text",
        help="json: one object a line, with fields that stay as they are.",
    )(command)


def _one_job(command: F) -> F:
    """Give a command a job's id, `--store` and `--format`."""
    argument = click.argument("id_", type=job_id, metavar="ID")
    return argument(store_option()(format_option(command)))


@click.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in JobState], case_sensitive=False),
    help="Only jobs in this state, or in any of several. Repeatable.",
)
@click.option(
    "--label",
    "labels",
    type=pair,
    multiple=True,
    metavar="NAME=VALUE",
    help="Only jobs with this label, or with all of several. Repeatable.",
)
@click.option("--name", metavar="TEXT", help="Only jobs of exactly this name.")
@click.option(
    "--limit",
    type=COUNT,
    default=100,
    metavar="N",
    help="At most so many. Default: 100.",
)
@click.option(
    "--after", type=job_id, metavar="ID", help="Only jobs older than this one: the next page."
)
@store_option()
@format_option
@click.pass_context
def list_(context: click.Context, /, file: StoreFile, form: str, **options: Any) -> None:
    """List jobs, the last submitted first."""
    context.exit(ask(file, partial(_list, form=form, **options)))


async def _list(
    client: Client,
    *,
    form: str,
    states: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    name: str | None,
    limit: int,
    after: str | None,
) -> int:
    jobs = await client.hodei.list_jobs(
        states=[JobState(state) for state in states] or None,
        labels=dict(labels),
        name=name,
        limit=limit + 1,
        after=None if after is None else (await client.job(after)).id,
    )
    shown = jobs[:limit]
    if form == "json":
        for job in shown:
            await client.print_object(job_fields(job))
        return 0
    from hodei_core.cli.views import jobs_table  # rich takes a while to import

    await client.print(jobs_table(client.console.out, shown))
    if len(jobs) > limit:
        await client.console.say(f"there are more: --after {shown[-1].id}")
    return 0


@click.command("get")
@_one_job
@click.pass_context
def get(context: click.Context, /, id_: str, file: StoreFile, form: str) -> None:
    """Show a job: what it is, how it fares, each attempt."""
    context.exit(ask(file, partial(_get, id_=id_, form=form)))


async def _get(client: Client, *, id_: str, form: str) -> int:
    job = await (await client.job(id_)).snapshot()
    if form == "json":
        await client.print_object(job_fields(job))
        return 0
    from hodei_core.cli.views import job_page

    await client.print(job_page(client.console.out, job))
    return 0


@click.command("logs")
@click.option(
    "--follow/--no-follow",
    default=True,
    help="Whether to go on until the job has ended, which is the default; else what is there now.",
)
@click.option(
    "--tail",
    type=NUMBER,
    metavar="N",
    help="Only the last N entries, then on.",
)
@click.option(
    "--after",
    type=NUMBER,
    metavar="SEQ",
    help="Only entries with a number above this.",
)
@click.option("--source", type=click.Choice(list(_SOURCES)), help="Only what came from here.")
@_one_job
@click.pass_context
def logs(context: click.Context, /, file: StoreFile, **options: Any) -> None:
    """Print what a job has printed, byte for byte.

    Its standard output comes out on standard output, its standard error on standard error.
    """
    if options["tail"] is not None and options["after"] is not None:
        raise click.UsageError("'--tail' and '--after' do not go together")
    context.exit(ask(file, partial(_logs, **options)))


async def _logs(
    client: Client,
    *,
    id_: str,
    form: str,
    follow: bool,
    tail: int | None,
    after: int | None,
    source: str | None,
) -> int:
    job = await client.job(id_)
    show = (JsonShow if form == "json" else PlainShow)(client.console)
    stream = job.logs(
        after=after or 0,
        tail=tail,
        follow=follow,
        source=None if source is None else _SOURCES[source],
    )
    if not follow:
        async for entries in stream.batches():
            await show.entries(entries)
        return 0
    async with beside(partial(_tell_if_nobody_runs_it, client, job)):
        async for entries in stream.batches():
            await show.entries(entries)
    return 0


async def _tell_if_nobody_runs_it(client: Client, job: JobHandle) -> None:
    with suppress(HodeiError):  # whoever follows the log is told
        await HostWatch(client.store).nobody()
        while not (now := await job.snapshot()).state.is_final:
            if now.state is JobState.PENDING or not await client.is_there(now.attempt.host_id):
                await client.console.say(
                    f"no host dispatches from {client.file} now: the log goes on when one does"
                )
                return
            await anyio.sleep(_LOOK_SECONDS)  # a host that closes waits for what it runs


@click.command("cancel")
@click.option("--reason", metavar="TEXT", help="Why, for whoever looks at the job later.")
@click.argument("ids", type=job_id, metavar="ID...", nargs=-1, required=True)
@store_option()
@format_option
@click.pass_context
def cancel(context: click.Context, /, file: StoreFile, **options: Any) -> None:
    """End jobs; returns when their processes are gone.

    Exit code 0: each is CANCELLED. 1: one had ended otherwise, is unknown, or has no host
    that could end it now; the message says which.
    """
    context.exit(ask(file, partial(_cancel, **options)))


async def _cancel(client: Client, *, ids: tuple[str, ...], form: str, reason: str | None) -> int:
    codes: list[int] = []

    async def cancel_one(id_: str) -> None:
        codes.append(await _cancel_one(client, id_, form, reason))

    async with anyio.create_task_group() as tasks:
        for id_ in dict.fromkeys(ids):
            tasks.start_soon(cancel_one, id_)
    return max(codes)


async def _cancel_one(client: Client, id_: str, form: str, reason: str | None) -> int:
    try:
        job = await client.job(id_)
    except (JobNotFoundError, RefusedError) as error:
        await client.console.say(str(error))
        return REFUSED
    result = await HostWatch(client.store).unless_nobody(partial(job.cancel, reason))
    if result is None:
        await client.console.say(
            f"job {job.id} is not ended yet: no host dispatches from {client.file}; "
            "the request is stored, for the next host"
        )
        return REFUSED
    return await _show_cancelled(client, result, form)


async def _show_cancelled(client: Client, result: JobResult, form: str) -> int:
    if form == "json":
        await client.print_object(result_fields(result))
    else:
        await client.print(f"{result.job_id} {result.state.name}\n")
    if result.state is JobState.CANCELLED:
        return 0
    await client.console.say(f"job {result.job_id} had ended before: {result.state.name}")
    return REFUSED


@click.command("explain")
@_one_job
@click.pass_context
def explain(context: click.Context, /, id_: str, file: StoreFile, form: str) -> None:
    """Say why a job is where it is, and where its time went."""
    context.exit(ask(file, partial(_explain, id_=id_, form=form)))


async def _explain(client: Client, *, id_: str, form: str) -> int:
    explanation = await (await client.job(id_)).explain()
    if form == "json":
        await client.print_object(explanation_fields(explanation))
    else:
        await client.print(f"{explanation}\n")
    return 0


@click.command("retry")
@_one_job
@click.pass_context
def retry(context: click.Context, /, id_: str, file: StoreFile, form: str) -> None:
    """Submit a job that has ended again, as a new one; print its id."""
    context.exit(ask(file, partial(_retry, id_=id_, form=form)))


async def _retry(client: Client, *, id_: str, form: str) -> int:
    await _print_new(client, await (await client.job(id_)).retry(), form)
    return 0


async def _print_new(client: Client, job: JobHandle, form: str) -> None:
    if form == "json":
        await client.print_object(job_fields(await job.snapshot()))
    else:
        await client.print(f"{job.id}\n")


@click.command("prune")
@click.option(
    "--older-than",
    type=waiting_span,
    required=True,
    metavar="TIME",
    help="Delete what ended longer ago than this, as 12h or 7d.",
)
@store_option()
@format_option
@click.pass_context
def prune(context: click.Context, /, file: StoreFile, form: str, older_than: float) -> None:
    """Delete jobs that have ended, with their logs; print how many."""
    context.exit(ask(file, partial(_prune, form=form, older_than=older_than)))


async def _prune(client: Client, *, form: str, older_than: float) -> int:
    count = await client.hodei.prune(older_than=older_than)
    if form == "json":
        await client.print_object({"type": "pruned", "jobs": count})
    else:
        await client.print(f"{count}\n")
    return 0


async def submit(client: Client, *, spec: JobSpec, form: str) -> int:
    """Store a job for whichever host runs it; print its id."""
    await _print_new(client, await client.hodei.submit(spec), form)
    if not await client.hosts():
        await client.console.say(
            f"no host dispatches from {client.file} now; `hodei host` runs what is in it"
        )
    return 0


JOB_COMMANDS: tuple[click.Command, ...] = (list_, get, logs, cancel, explain, retry, prune)
