"""Shows that cancelling a job ends its whole process tree, children that fled included.

Run it:     python examples/cancel_tree.py

It prints:  that the job runs with the children that it put into sessions of their own, how it
            ended, and that none of its processes is left.
"""

from pathlib import Path

import anyio

from hodei_core import Hodei

COMMAND = """
setsid setsid sleep 600 &
setsid setsid sleep 600 &
echo started
sleep 600
echo woke
"""


def processes_of(job_id: str) -> list[int]:
    """Return the processes that carry the job's id in their environment."""
    mark = f"HODEI_JOB_ID={job_id}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        if mark in environment.split(b"\0"):
            found.append(int(directory.name))
    return found


async def main() -> None:
    async with Hodei() as hodei:
        job = await hodei.submit(COMMAND, grace=1)
        async for entry in job.logs():
            print(entry.text)
            break
        with anyio.fail_after(10):
            while len(processes_of(job.id)) < 4:  # noqa: ASYNC110 - nobody tells of a fork
                await anyio.sleep(0.01)
        print("its shell and three children run, two of them in sessions of their own")

        result = await job.cancel("the user has changed their mind")
        print(f"{result.state.name}: {result.message}")
        print(f"processes left: {len(processes_of(job.id))}")
        assert not processes_of(job.id)


if __name__ == "__main__":
    anyio.run(main)
