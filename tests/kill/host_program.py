"""A host that is killed: `python -m tests.kill.host_program FOLDER SEED ROLE`.

The first host of a run submits all of its plan. The next ones submit what has a key `again`, and
have everything end. One that is `leaving` stops while its jobs run; one that is `submitting` has
no workers, and does nothing else.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from hodei_core.errors import StoreBusyError
from tests.kill.ledger import Pen
from tests.kill.plan import CANCEL, Planned, plan

SLOTS = 4
BUSY = 75
"""The exit code of a host that could not open a file which another one has locked."""


class Program:
    """Uses one `Hodei`, and notes what it is told."""

    def __init__(self, folder: Path, seed: int, role: str, pen: Pen) -> None:
        from hodei_core import Hodei
        from hodei_core.backends.local import LocalProvider

        self.pen = pen
        self.plan = plan(seed, folder)
        self.hodei = Hodei(
            folder / "jobs.db",
            providers=[] if role == "submitting" else [LocalProvider(slots=SLOTS)],
            shutdown_timeout=0.3,
        )

    async def first(self) -> None:
        async with self.hodei:
            self.pen.note("open")
            async with anyio.create_task_group() as tasks:
                await self._submit_all(tasks)
                await self.hodei.join()
            self.pen.note("closing")

    async def again(self) -> None:
        async with self.hodei:
            self.pen.note("open")
            async with anyio.create_task_group() as tasks:
                for job in await self.hodei.list_jobs(limit=1_000):
                    tasks.start_soon(self._wait, job.id)
                for planned in self.plan:
                    if planned.spec.key is not None:
                        await self._submit([planned], tasks)
                await self.hodei.cancel_jobs(labels=CANCEL)
                await self.hodei.join()
            for job in await self.hodei.list_jobs(limit=1_000):
                await self._read(job.id)
            self.pen.note("closing")

    async def leaving(self) -> None:
        async with self.hodei:
            self.pen.note("open")
            async with anyio.create_task_group() as tasks:
                await self._submit_all(tasks)
                tasks.cancel_scope.cancel()
            self.pen.note("closing")

    async def _submit_all(self, tasks: TaskGroup) -> None:
        for _, jobs in itertools.groupby(self.plan, lambda job: job.batch or job.name):
            await self._submit(list(jobs), tasks)

    async def _submit(self, jobs: list[Planned], tasks: TaskGroup) -> None:
        if len(jobs) == 1:
            handles = [await self.hodei.submit(jobs[0].spec)]
        else:
            handles = await self.hodei.submit_many(job.spec for job in jobs)
        for job, handle in zip(jobs, handles, strict=True):
            self.pen.note("accepted", handle.id, job.name)
            tasks.start_soon(self._wait, handle.id)
            if dict(job.spec.labels) == CANCEL:
                tasks.start_soon(self._cancel, handle.id)

    async def _wait(self, job_id: str) -> None:
        result = await self.hodei.handle(job_id).wait()
        self.pen.note("told", job_id, result.state.value, result.exit_code)

    async def _read(self, job_id: str) -> None:
        last = 0
        async for entry in self.hodei.handle(job_id).logs(follow=False):
            if entry.seq != last + max(entry.lost, 1):
                self.pen.note("torn", job_id, last, entry.seq)
            last = entry.seq
        self.pen.note("read", job_id, last)

    async def _cancel(self, job_id: str) -> None:
        with anyio.move_on_after(int(job_id[:2], 16) / 256):  # from at once to a second
            await self.hodei.handle(job_id).wait()
        result = await self.hodei.handle(job_id).cancel("the harness says so")
        self.pen.note("cancelled", job_id, result.state.value)


def main() -> None:
    folder, seed, role = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    pen = Pen(folder / "ledger")
    pen.note("host", os.getpid())
    program = Program(folder, seed, role, pen)
    roles = {"first": program.first, "again": program.again}
    try:
        anyio.run(roles.get(role, program.leaving))
    except StoreBusyError:
        sys.exit(BUSY)
    pen.note("closed")


if __name__ == "__main__":
    main()
