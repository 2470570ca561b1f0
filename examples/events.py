"""Shows how to watch: every change of every job as an event, and why a job is where it is.

Run it:     python examples/events.py

It prints:  why a job waits, whose only slot another has; a line when one of three jobs
            has waited for longer than `stuck_after`, is tried again, or has ended;
            and what became of all.
"""

import anyio

from hodei_core import (
    Backoff,
    Event,
    EventStream,
    Hodei,
    JobEvent,
    JobFinished,
    JobRetried,
    JobState,
    JobStuck,
    RetryPolicy,
)
from hodei_core.backends.local import LocalProvider


async def watch(events: EventStream[Event], names: dict[str, str]) -> None:
    """Print events; a metrics exporter would count them instead."""
    async for event in events:
        if not isinstance(event, JobEvent):
            continue
        text = f"{names.get(event.job_id, '?')}: {type(event).__name__}"
        if isinstance(event, JobRetried) and event.reason is not None:
            text += f" after attempt {event.attempt} ended by {event.reason.name}"
        elif isinstance(event, JobFinished):
            text += f" {event.state.name}, exit code {event.exit_code}"
        elif isinstance(event, JobStuck):
            text += f": {event.explanation.splitlines()[0]}"
        print(text)


async def main() -> None:
    names: dict[str, str] = {}
    async with (
        anyio.create_task_group() as tasks,
        Hodei(providers=[LocalProvider(slots=1)], stuck_after=0.2) as hodei,
        hodei.events(JobRetried, JobFinished, JobStuck) as events,
    ):
        tasks.start_soon(watch, events, names)

        slow = await hodei.submit("echo started; sleep 0.5", name="slow")
        names[slow.id] = "slow"
        async for _ in slow.logs():
            break

        waiting = await hodei.submit("true", name="waiting")
        names[waiting.id] = "waiting"
        print(f"waiting: {(await waiting.explain()).summary}")
        await waiting

        policy = RetryPolicy(max_attempts=2, backoff=Backoff(first=0.1))
        flaky = await hodei.submit('test "$HODEI_ATTEMPT" -eq 2', name="flaky", retry=policy)
        names[flaky.id] = "flaky"
        await hodei.join()

        jobs = (await hodei.stats()).jobs
        print(f"succeeded: {jobs[JobState.SUCCEEDED]}, failed: {jobs[JobState.FAILED]}")


if __name__ == "__main__":
    anyio.run(main)
