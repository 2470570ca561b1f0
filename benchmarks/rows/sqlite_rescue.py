"""From the death of a host until another one has given its work back to the queue."""

from __future__ import annotations

import asyncio
import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import IO

from benchmarks.figures import Figure, Judged, Row
from benchmarks.rounds import percentile
from benchmarks.stores import new_files
from hodei_core import Backoff, Hodei, JobRetried, JobStarted, RetryPolicy
from hodei_core.backends.local import LocalProvider

_HOST = """
import sys
import anyio
from hodei_core import Hodei
from hodei_core.backends.local import LocalProvider

async def main():
    async with Hodei(sys.argv[1], providers=[LocalProvider(slots=1)]):
        print("up", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""
_HOLDER = """
import fcntl, sys, time

file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("up", flush=True)
time.sleep(1000)
"""
_TWICE = RetryPolicy(max_attempts=2, backoff=Backoff(first=3600, max=3600))
_ASLEEP = ("sleep", "1000")
_BEAT = 0.2  # seconds between two looks at the others: hosts do not die at the same point of it
_CHANCE = Random(1)  # noqa: S311 - no secret


def measure(quick: bool) -> list[Figure]:
    with new_files() as new_file:
        floor, ours = asyncio.run(_measure(new_file(), 2 if quick else 25))
    return [
        Figure(
            name=f"sqlite_rescue.p{share}",
            what=f"from kill -9 of a host until its job is given back by another host, p{share}",
            unit="ms",
            floor_is="from kill -9 of a bare process until a lock that it held is free",
            floor=percentile(floor, share / 100) * 1e3,
            ours=percentile(ours, share / 100) * 1e3,
            judged=Judged.DIFFERENCE,
            value=(percentile(ours, share / 100) - percentile(floor, share / 100)) * 1e3,
            note="evidence included: its guard has ended the job's tree, and its journal was read",
        )
        for share in (50, 99)
    ]


async def _measure(path: Path, rounds: int) -> tuple[list[float], list[float]]:
    floor: list[float] = []
    ours: list[float] = []
    async with Hodei(path, providers=[LocalProvider(slots=1)]) as hodei:
        busy = await hodei.submit(_ASLEEP)  # so that this host has no slot for what follows
        for _ in range(rounds):
            floor.append(_bare(path.with_suffix(".lock")))
            ours.append(await _rescued(hodei, path))
        await busy.cancel()
    return floor, ours


async def _rescued(hodei: Hodei, path: Path) -> float:
    """Return the seconds from the end of a host until its job is to be tried again."""
    async with hodei.events(JobStarted, JobRetried) as events:
        with _program(_HOST, path) as host:
            job = await hodei.submit(_ASLEEP, retry=_TWICE)
            async for event in events:
                if isinstance(event, JobStarted) and event.job_id == job.id:
                    break
            await asyncio.sleep(_CHANCE.uniform(0, _BEAT))
            began = time.perf_counter()
            host.kill()
            async for event in events:
                if isinstance(event, JobRetried) and event.job_id == job.id:
                    break
            taken = time.perf_counter() - began
            await job.cancel()
    return taken


def _bare(path: Path) -> float:
    """Return the seconds from the end of a process until its lock is free."""
    with _program(_HOLDER, path) as holder, path.open("w") as file:
        began = time.perf_counter()
        holder.kill()
        fcntl.lockf(file, fcntl.LOCK_EX)
        return time.perf_counter() - began


@contextmanager
def _program(text: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a program that runs and has said that it is up."""
    command = [sys.executable, "-c", text, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            said: IO[bytes] | None = process.stdout
            assert said is not None
            assert said.readline() == b"up\n"
            yield process
        finally:
            process.kill()


ROW = Row("sqlite_rescue", "crash of a host to its work rescued", measure)
