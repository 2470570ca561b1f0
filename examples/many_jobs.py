"""Shows many jobs at once: stored in one transaction, run by priority, joined at the end.

Run it:     python examples/many_jobs.py

It prints:  the order in which twelve jobs on two slots were started (first those of priority
            10, then 5, then 0, though they were submitted the other way round), and the counts
            of `stats()`.
"""

import anyio

from hodei_core import Hodei, JobSpec, JobState
from hodei_core.backends.local import LocalProvider


async def main() -> None:
    specs = [
        JobSpec(("sleep", "0.05"), name=f"{name}-{number}", priority=priority)
        for name, priority in (("later", 0), ("normal", 5), ("urgent", 10))
        for number in range(1, 5)
    ]
    async with Hodei(providers=[LocalProvider(slots=2)]) as hodei:
        handles = await hodei.submit_many(specs)  # all or none
        await hodei.join()  # nothing is pending or running any more

        results = [await handle for handle in handles]
        started = sorted(results, key=lambda result: result.attempts[0].assigned_at)
        print("started:", " ".join(str(result.name) for result in started))

        stats = await hodei.stats()
        print(f"{stats.jobs[JobState.SUCCEEDED]} succeeded, {stats.pending} pending")
        print(f"{stats.slots_used} of {stats.slots_total} slots in use")


if __name__ == "__main__":
    anyio.run(main)
