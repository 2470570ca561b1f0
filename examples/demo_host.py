"""The second host of the demo: opens, runs four jobs whose children have fled, and waits.

Started by demo.py, which kills it with SIGKILL in the middle of its jobs.

Run it:     python examples/demo_host.py MARK    (and stop it with Ctrl-C)

It prints:  `running` once all four jobs and their children run. Each carries MARK in its
            environment, as DEMO_MARK.
"""

import sys

import anyio

from hodei_core import Hodei, JobSpec
from hodei_core.backends.local import LocalProvider

# A child that is put into a session of its own twice has no tie to its parent left.
COMMAND = "setsid setsid sleep 600 & setsid setsid sleep 600 & echo started; sleep 600; echo woke"
JOBS = 4


async def main(mark: str) -> None:
    async with Hodei(providers=[LocalProvider(slots=JOBS)]) as hodei:
        spec = JobSpec(COMMAND, env={"DEMO_MARK": mark})
        jobs = await hodei.submit_many([spec] * JOBS)
        for job in jobs:
            async for _ in job.logs():
                break
        print("running", flush=True)
        await hodei.join()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/demo_host.py MARK")
    anyio.run(main, sys.argv[1])
