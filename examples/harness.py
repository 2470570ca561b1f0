"""Shows how to test code that uses the library: no processes, and time that you move.

`MemoryProvider` awaits a function of yours instead of starting a process, and `FakeClock` stands
still until it is told to go on, so that a delay of an hour takes no time at all.

Run it:     python examples/harness.py

It prints:  what the code under test did, step by step, within milliseconds; an hour and two
            backoffs pass on the clock.
"""

import anyio

from hodei_core import (
    Backoff,
    Execution,
    Hodei,
    JobHandle,
    JobRetried,
    LogSource,
    Output,
    RetryPolicy,
)
from hodei_core.backends.memory import MemoryProvider
from hodei_core.testing import FakeClock


async def nightly_report(hodei: Hodei) -> JobHandle:
    """Submit the report, an hour from now. This is the code under test."""
    return await hodei.submit(
        "make report",
        delay=3600,
        retry=RetryPolicy(max_attempts=3, backoff=Backoff(first=30, jitter=0)),
    )


async def fake_worker(execution: Execution, output: Output) -> int:
    """Stand in for `make report`: fail twice, then succeed."""
    if execution.attempt < 3:
        await output.write("disk full\n", LogSource.STDERR)
        return 1
    await output.write(f"{execution.spec.command}: done\n")
    return 0


async def main() -> None:
    clock = FakeClock()
    async with Hodei(providers=[MemoryProvider(fake_worker)], clock=clock) as hodei:
        job = await nightly_report(hodei)
        print(await job.explain())

        async with hodei.events(JobRetried) as retries:
            clock.advance(3600)
            for pause in (30, 60):
                event = await anext(retries)
                assert isinstance(event, JobRetried)
                print(f"attempt {event.attempt} failed; the next is due after {pause} s")
                assert (event.due_at - event.at).total_seconds() == pause
                clock.advance(pause)

        result = await job
        print(f"{result.state.name} after {len(result.attempts)} attempts: {result.stdout!r}")
        assert result.ok
        assert result.duration is not None
        print(f"it took {result.duration.total_seconds():g} s by the clock")


if __name__ == "__main__":
    anyio.run(main)
