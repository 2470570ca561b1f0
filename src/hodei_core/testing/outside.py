"""What exists of scripted workers and runs on them, whatever their host believes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import anyio

from hodei_core.clock import Clock, SystemClock
from hodei_core.ids import JobId, WorkerId
from hodei_core.testing.acts import Making


class LiveExecution(NamedTuple):
    """An attempt that runs on a scripted worker."""

    job_id: JobId
    attempt: int
    worker_id: WorkerId


class ScriptedWorker:
    """A worker of a `ScriptedProvider` as it is outside.

    Instants are seconds of the host's monotonic clock.
    """

    def __init__(self, worker_id: WorkerId, number: int, making: Making, now: float) -> None:
        self.id: WorkerId = worker_id
        self.number: int = number
        """Which ask of the provider it came from, counted from 1."""

        self.making: Making = making
        self.state: Literal["asked", "alive", "lost", "ended", "never made"] = "asked"
        self.asked_at: float = now
        self.ready_at: float | None = None
        """Since when it exists."""

        self.gone_at: float | None = None
        """Since when it is certain that it does not exist, or not any more."""

        self.silent: bool = False
        """Whether nothing is heard of it any more."""

        self.discards: int = 0
        """How often it was told to end, by `terminate` or `discard`."""

        self.ended_under: list[LiveExecution] = []
        """What ran on it when it was told to end."""

        self._refusals = making.end_failures
        self._gone = anyio.Event()
        self._cut: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<ScriptedWorker {self.id} {self.state}>"


class Outside:
    """Keeps count of workers and of what they run."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self.workers: dict[WorkerId, ScriptedWorker] = {}
        self.executing: list[LiveExecution] = []
        self.executed: list[LiveExecution] = []
        self.overlaps: list[tuple[LiveExecution, LiveExecution]] = []
        self.alive: dict[WorkerId, None] = {}
        self.most_alive: int = 0

    def ask(self, worker_id: WorkerId, number: int, making: Making) -> ScriptedWorker:
        """Take note that a worker was asked for."""
        worker = ScriptedWorker(worker_id, number, making, self.clock.monotonic())
        self.workers[worker_id] = worker
        return worker

    def make(self, worker: ScriptedWorker, cut: Callable[[], None]) -> None:
        """Have a worker exist; `cut` is called when it does not any more."""
        worker.state = "alive"
        worker.ready_at = self.clock.monotonic()
        worker._cut = cut
        self.alive[worker.id] = None
        self.most_alive = max(self.most_alive, len(self.alive))

    async def end(self, worker: ScriptedWorker) -> None:
        """End a worker, unless it refuses.

        Raises:
            BaseException: it refuses, with the error of its making.
        """
        worker.discards += 1
        worker.ended_under += [live for live in self.executing if live.worker_id == worker.id]
        if worker.gone_at is not None:
            return
        if worker._refusals:
            worker._refusals -= 1
            raise worker.making.end_error or OSError("it is still there")
        if worker.making.end_hangs:
            await worker._gone.wait()
        self.gone(worker, "ended")

    def gone(self, worker: ScriptedWorker, state: Literal["lost", "ended"]) -> None:
        """Have a worker not exist any more, nor what ran on it; idempotent."""
        made = worker.ready_at is not None
        if worker.gone_at is not None or (not made and worker.making.late is not None):
            return  # what is late can come yet
        self.alive.pop(worker.id, None)
        worker.state = state if made else "never made"
        worker.gone_at = self.clock.monotonic()
        worker._gone.set()
        self.executing = [live for live in self.executing if live.worker_id != worker.id]
        worker._cut()

    def begin(self, live: LiveExecution) -> None:
        """Take note that an attempt runs."""
        others = [other for other in self.executing if other.job_id == live.job_id]
        self.overlaps += [(other, live) for other in others]
        self.executing.append(live)
        self.executed.append(live)

    def stop(self, live: LiveExecution) -> None:
        """Take note that it does not run any more; idempotent."""
        if live in self.executing:
            self.executing.remove(live)
