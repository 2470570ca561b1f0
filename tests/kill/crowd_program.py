"""One of a crowd on one file: `python -m tests.kill.crowd_program FOLDER host|client NUMBER`.

A host runs what there is until its stdin ends, then until all is final. A client submits its
jobs once its stdin has ended, and leaves.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import anyio.to_thread

from hodei_core import Hodei, JobSpec
from hodei_core.backends.local import LocalProvider
from tests.kill.ledger import Pen
from tests.kill.plan import NOTES, RUN_MARK

JOBS = 80  # of each client
BATCH = 8  # half of the jobs come so many at once
SLOTS = 2


async def host(folder: Path, pen: Pen) -> None:
    async with Hodei(folder / "jobs.db", providers=[LocalProvider(slots=SLOTS)]) as hodei:
        pen.note("open")
        await until_told()
        await hodei.join()


async def client(folder: Path, pen: Pen, number: str) -> None:
    environment = {
        "LEDGER": str(folder / "ledger"),
        RUN_MARK: folder.name,
    }
    specs = [
        JobSpec(NOTES + "end 0", name=f"{number}-{job}", env=environment) for job in range(JOBS)
    ]
    async with Hodei(folder / "jobs.db", providers=[]) as hodei:
        pen.note("open")
        await until_told()
        async with anyio.create_task_group() as tasks:
            for first in range(0, JOBS, BATCH):
                tasks.start_soon(
                    submit, hodei, pen, specs[first : first + BATCH], first // BATCH % 2 == 0
                )


async def submit(hodei: Hodei, pen: Pen, specs: list[JobSpec], together: bool) -> None:
    if together:
        handles = await hodei.submit_many(specs)
    else:
        handles = [await hodei.submit(spec) for spec in specs]
    for handle, spec in zip(handles, specs, strict=True):
        pen.note("accepted", handle.id, spec.name)


async def until_told() -> None:
    await anyio.to_thread.run_sync(sys.stdin.read)


def main() -> None:
    folder, role, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    pen = Pen(folder / "ledger")
    if role == "host":
        anyio.run(host, folder, pen)
    else:
        anyio.run(client, folder, pen, number)
    pen.note("closed")


if __name__ == "__main__":
    main()
