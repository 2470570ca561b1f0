"""`hodei workers`, `hodei stats`, `hodei host`."""

from __future__ import annotations

from functools import partial

import anyio
import click

from hodei_core.checks import MAX_SLOTS
from hodei_core.cli.asking import Client, ask
from hodei_core.cli.hosting import run_host
from hodei_core.cli.job_commands import format_option
from hodei_core.cli.options import waiting_span
from hodei_core.cli.records import stats_fields, worker_fields
from hodei_core.cli.stores import StoreFile, store_option
from hodei_core.hodei import default_provider


@click.command()
@store_option()
@format_option
@click.pass_context
def workers(context: click.Context, /, file: StoreFile, form: str) -> None:
    """List the workers that are alive, the oldest first."""
    context.exit(ask(file, partial(_workers, form=form)))


async def _workers(client: Client, *, form: str) -> int:
    alive = await client.hodei.list_workers()
    if form == "json":
        for worker in alive:
            await client.print_object(worker_fields(worker))
        return 0
    from hodei_core.cli.views import workers_table  # rich takes a while to import

    await client.print(workers_table(client.console.out, alive))
    return 0


@click.command()
@store_option()
@format_option
@click.pass_context
def stats(context: click.Context, /, file: StoreFile, form: str) -> None:
    """Count jobs by state, workers, slots, and registered hosts."""
    context.exit(ask(file, partial(_stats, form=form)))


async def _stats(client: Client, *, form: str) -> int:
    counts, hosts = await client.hodei.stats(), await client.hosts()
    if form == "json":
        await client.print_object(stats_fields(counts, hosts))
        return 0
    from hodei_core.cli.views import stats_page

    await client.print(stats_page(counts, hosts))
    return 0


_HOST_EPILOG = """\b
Examples:
  hodei host --store jobs.db
  hodei host --store jobs.db --slots 4 --shutdown-timeout 1m
"""


@click.command(epilog=_HOST_EPILOG)
@click.option(
    "--provider",
    type=click.Choice(["local"]),
    default="local",
    help="What runs the jobs. Default: local, which is this machine.",
)
@click.option(
    "--slots",
    type=click.IntRange(min=1, max=MAX_SLOTS),
    metavar="N",
    help="How many jobs it runs at once. Default: as many as there are CPUs.",
)
@click.option(
    "--shutdown-timeout",
    type=waiting_span,
    metavar="TIME",
    help="When it is told to stop, end what still runs after this. Default: wait for it.",
)
@click.option("--quiet", is_flag=True, help="Say nothing of jobs that start and end.")
@store_option(makes=True)
@click.pass_context
def host(
    context: click.Context,
    /,
    file: StoreFile,
    provider: str,
    slots: int | None,
    shutdown_timeout: float | None,
    quiet: bool,
) -> None:
    """Run the jobs of a store until told to stop.

    The first Ctrl-C or SIGTERM: no more jobs are started, and those that run are waited for. The
    second: they are ended (SIGTERM, their grace, SIGKILL). The third: killed. What is pending
    stays in the store, for the next host.
    """
    local = default_provider(name=provider, slots=slots)
    run = partial(run_host, file, local, shutdown_timeout=shutdown_timeout, quiet=quiet)
    context.exit(anyio.run(run))


STORE_COMMANDS: tuple[click.Command, ...] = (workers, stats, host)
