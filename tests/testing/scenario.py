"""A busy half an hour in virtual time, and the hash of all that could be seen of it.

Run by itself it prints the hash: `python -m tests.testing.scenario SEED`.
"""

from __future__ import annotations

import hashlib
import random
import sys

import anyio

from hodei_core import (
    Backoff,
    Execution,
    Hodei,
    JobHandle,
    LogSource,
    Output,
    RetryPolicy,
)
from hodei_core.backends.memory import MemoryProvider
from hodei_core.testing import capture_events, run_simulated

JOBS = 100
SEED = 11


async def worker(execution: Execution, output: Output) -> int:
    """Do what the job's command says: its exit code, and how often it fails first."""
    verb, seconds, code = str(execution.spec.command).split()
    for line in range(3):
        source = LogSource.STDERR if line == 2 else LogSource.STDOUT
        await output.write(f"{verb} {execution.attempt}.{line}\n", source)
        await anyio.sleep(float(seconds))
    if verb == "flaky" and execution.attempt < 3:
        return 1
    return int(code)


async def submit(hodei: Hodei, number: int) -> JobHandle:
    """Submit the job of that number: each kind of trouble comes in turn."""
    policy = RetryPolicy(max_attempts=4, backoff=Backoff(first=10, jitter=0.5))
    labels = {"half": "even" if number % 2 else "odd"}
    kinds = [f"plain {number % 30} 0", f"flaky {number % 7} 0", "slow 60 0", f"bad {number % 9} 3"]
    return await hodei.submit(
        kinds[number % 4],
        name=f"job-{number}",
        delay=(number * 37) % 300,
        timeout=100,
        priority=number % 3,
        retry=policy,
        labels=labels,
    )


async def read(job: JobHandle, lines: list[str]) -> None:
    lines.extend([repr(entry) async for entry in job.logs()])


async def history() -> list[str]:
    """Return what happened in that time: every event, every log entry, every result."""
    lines: list[str] = []
    providers = [
        MemoryProvider(worker, name="small", slots=3, labels={"half": "odd"}),
        MemoryProvider(worker, name="large", slots=8),
    ]
    async with Hodei(providers=providers) as hodei, capture_events(hodei) as captured:
        jobs: list[JobHandle] = []
        async with anyio.create_task_group() as tasks:
            for number in range(JOBS):
                jobs.append(await submit(hodei, number))
                if number % 5 == 0:
                    tasks.start_soon(read, jobs[-1], lines)
            for job in jobs[::9]:
                tasks.start_soon(job.cancel, "no longer wanted")
            await anyio.sleep(200 * random.random())
            await hodei.cancel_jobs(labels={"half": "odd"}, name="job-2")
            results = [await job.wait() for job in jobs]
        await hodei.join()
    return [*map(repr, captured), *map(repr, results), *lines]


def digest(seed: int) -> str:
    """Return the hash of one history."""
    lines = run_simulated(history, seed=seed)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    print(digest(int(sys.argv[1])))
