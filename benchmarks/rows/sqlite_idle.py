"""What an open Hodei burns on a file when nothing is to be done, alone and beside another."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.figures import Figure, Judged, Row
from benchmarks.machine import children
from benchmarks.rows.idle import burned
from benchmarks.stores import new_files
from hodei_core import Hodei

_OTHER = """
import asyncio, sys
from hodei_core import Hodei
async def main():
    async with Hodei(sys.argv[1]) as hodei:
        print((await hodei.run("true")).exit_code, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def measure(quick: bool) -> list[Figure]:
    return asyncio.run(_measure(0.5 if quick else 10.0))


async def _measure(seconds: float) -> list[Figure]:
    await burned([os.getpid()], 0.1)  # what is done once
    bare = await burned([os.getpid()], seconds / 5)
    with new_files() as new_file:
        path = new_file()
        async with Hodei(path) as hodei:
            assert (await hodei.run("true")).ok
            await asyncio.sleep(min(seconds, 1.0))  # what the start left to be done
            pids = [os.getpid(), *children()]
            assert len(pids) == 2, "the host and its guard"
            alone = await burned(pids, seconds)
            async with _another(path):
                await asyncio.sleep(min(seconds, 1.0))
                shared = await burned(pids, seconds)

    def figure(name: str, how: str, value: float) -> Figure:
        return Figure(
            name=f"sqlite_idle.{name}",
            what=f"CPU of host and guard over {seconds:g} s without a job, on a SQLite file {how}",
            unit="% of a core",
            floor_is="an asyncio loop that sleeps",
            floor=bare * 100,
            ours=value * 100,
            judged=Judged.OURS,
            value=value * 100,
            first=0.5,
            end=0.5,
        )

    return [
        figure("alone", "of its own", alone),
        figure("shared", "beside another host", shared),
    ]


@asynccontextmanager
async def _another(path: Path) -> AsyncIterator[None]:
    """Keep another host open on the file."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _OTHER,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"0\n"
        yield
    finally:
        await process.communicate()


ROW = Row("sqlite_idle", "idle CPU of host and guard on a SQLite file, alone and shared", measure)
