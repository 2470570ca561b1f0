"""Shows the log of one job read by several readers, each at its own pace and from its own place.

Run it:     python examples/live_logs.py

It prints:  what each reader has seen: one all of it, live; one the standard error alone; one,
            which came late and left early, two lines; and at the end the last line, read back.
            The readers cost the job nothing, and a slow one holds up none of the others.
"""

import anyio

from hodei_core import Hodei, JobHandle, LogSource

COMMAND = """
for number in 1 2 3 4; do
    echo "line $number"
    sleep 0.1
done
echo "a warning" >&2
"""


async def read_all(job: JobHandle) -> None:
    lines = [entry.text async for entry in job.logs()]
    print(f"all: {lines}")


async def read_errors(job: JobHandle) -> None:
    lines = [entry.text async for entry in job.logs(source=LogSource.STDERR)]
    print(f"errors: {lines}")


async def read_two_after_the_first(job: JobHandle) -> None:
    lines = []
    async for entry in job.logs(after=1):  # a reader that was at 1 goes on there
        lines.append(entry.text)
        if len(lines) == 2:
            break  # leaving is free
    print(f"two: {lines}")


async def main() -> None:
    async with Hodei() as hodei:
        job = await hodei.submit(COMMAND)
        async with anyio.create_task_group() as readers:
            readers.start_soon(read_all, job)
            readers.start_soon(read_errors, job)
            readers.start_soon(read_two_after_the_first, job)

        async for entry in job.logs(tail=1, follow=False):
            print(f"last: {entry.seq} {entry.text}")
        print(f"bytes: {await job.output()!r}")


if __name__ == "__main__":
    anyio.run(main)
