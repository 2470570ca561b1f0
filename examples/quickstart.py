"""Shows a first job: its output while it runs, its result, and a command run in one call.

Run it:     python examples/quickstart.py

It prints:  two lines two seconds apart, each with its time and its source, then the result of
            the job (SUCCEEDED, exit code 0), then what `uname -s` says, as Linux.
"""

import anyio

from hodei_core import Hodei


async def main() -> None:
    async with Hodei() as hodei:  # memory store, local processes
        job = await hodei.submit("echo hello; sleep 2; echo done", name="first")
        async for entry in job.logs():  # live, while the job runs
            print(entry.at, entry.source, entry.text, flush=True)
        print(await job.wait())  # JobResult(state=SUCCEEDED, exit_code=0, ...)
        print((await hodei.run("uname -s", check=True)).stdout, end="")


if __name__ == "__main__":
    anyio.run(main)
