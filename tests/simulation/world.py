"""What is outside of every host: workers that exist, executions that live, providers that fail."""

from __future__ import annotations

import math

import anyio
import attrs

from hodei_core.clock import Clock
from hodei_core.errors import ProvisionError
from hodei_core.executions import Execution, Exit
from hodei_core.ids import JobId, WorkerId
from hodei_core.logs import LogSource
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import (
    AttemptOutput,
    NotStartedError,
    ProviderHost,
    WorkerLostError,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.states import JobState
from hodei_core.workers import Offer
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.store import Power


@attrs.define(eq=False)
class Live:
    """An execution outside."""

    job_id: JobId
    attempt: int
    ends_at: float
    """When it ends by itself."""


@attrs.define(eq=False)
class Outside:
    """A worker that exists."""

    id: WorkerId
    slots: int
    owner: Power
    executions: list[Live] = attrs.field(factory=list)
    gone: anyio.Event = attrs.field(factory=anyio.Event)
    lost: str | None = None
    silent: bool = False


class World:
    """Keeps the truth, and holds the library to it."""

    def __init__(self, disk: Disk, faults: Faults, history: History, clock: Clock) -> None:
        self.workers: dict[WorkerId, Outside] = {}
        self.made = 0
        self.disk = disk
        self.faults = faults
        self.history = history
        self.clock = clock
        disk.may_be_gone = lambda worker_id: worker_id not in self.workers

    def note(self, text: str) -> None:
        """Add a fact to the history."""
        self.history.note(self.clock.monotonic(), text)

    def make(self, worker_id: WorkerId, provider: SimulatedProvider, power: Power) -> Outside:
        """Let a worker come into being."""
        if worker_id not in self.disk.workers:
            msg = f"I7: {worker_id} is made, and no intent was written"
            raise self.history.broken(msg)
        if worker_id in self.workers:
            msg = f"I7: {worker_id} is made twice"
            raise self.history.broken(msg)
        mine = [
            other
            for other in self.workers.values()
            if other.owner is power and other.id.startswith(provider.offer.provider + "-")
        ]
        if len(mine) >= provider.policy.max_workers:
            msg = f"I8: {provider.offer.provider} has {len(mine) + 1} workers"
            raise self.history.broken(msg)
        self.made += 1
        worker = self.workers[worker_id] = Outside(worker_id, provider.offer.slots, power)
        self.note(f"outside: {worker_id} exists")
        return worker

    def end(self, worker_id: WorkerId) -> None:
        """End a worker and all that runs on it."""
        worker = self.workers.pop(worker_id, None)
        if worker is not None:
            worker.executions.clear()
            worker.gone.set()
            self.note(f"outside: {worker_id} is gone")

    def live(self) -> list[Live]:
        """Return the executions that live now."""
        now = self.clock.monotonic()
        return [
            one
            for worker in self.workers.values()
            for one in worker.executions
            if one.ends_at > now
        ]

    def begin(self, worker: Outside, execution: Execution, seconds: float) -> Live:
        """Start an execution; hold what must be true then."""
        job = self.disk.jobs.get(execution.job_id)
        if job is None:
            msg = f"I19: {execution.job_id} starts, and was pruned"
            raise self.history.broken(msg)
        where = f"{execution.job_id[:8]} attempt {execution.attempt} on {worker.id}"
        if any(one.job_id == execution.job_id for one in self.live()):
            msg = f"I6: {where} starts, and another execution of the job lives"
            raise self.history.broken(msg)
        current = job.attempts[-1] if job.attempts else None
        if (
            job.state not in (JobState.ASSIGNED, JobState.RUNNING)
            or current is None
            or (current.number, current.worker_id) != (execution.attempt, worker.id)
        ):
            msg = f"I4, I14: {where} starts, and the job is {job.state.name}"
            raise self.history.broken(msg)
        now = self.clock.monotonic()
        worker.executions = [one for one in worker.executions if one.ends_at > now]
        if len(worker.executions) >= worker.slots:
            msg = f"I5: {where} starts, and all slots are taken"
            raise self.history.broken(msg)
        live = Live(execution.job_id, execution.attempt, now + seconds)
        worker.executions.append(live)
        self.note(f"outside: {where} starts")
        return live


class SimulatedProvider(WorkerProvider):
    """A host's line to the world, with the faults of a real one."""

    def __init__(
        self,
        world: World,
        power: Power,
        name: str,
        *,
        slots: int,
        policy: WorkerPolicy,
        cpus: float,
    ) -> None:
        from hodei_core.resources import Resources

        self._world = world
        self._power = power
        self._policy = policy
        self._offer = Offer(provider=name, slots=slots, resources=Resources(cpus=cpus))
        self._ours: dict[WorkerId, None] = {}

    @property
    def offer(self) -> Offer:
        return self._offer

    @property
    def policy(self) -> WorkerPolicy:
        return self._policy

    async def open(self, host: ProviderHost) -> None:
        await self._power.check()

    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        world, faults = self._world, self._world.faults
        await self._power.check()
        if faults.strike("making fails", 0.3):
            msg = "no room on the machine"
            raise ProvisionError(msg)
        if faults.strike("making hangs", 0.1):
            await anyio.sleep_forever()
        if faults.strike("making slow", 0.3):
            await anyio.sleep(faults.chance.choice((0.5, 5.0, 20.0)))
        else:
            await anyio.sleep(0.1)
        await self._power.check()
        self._ours[worker_id] = None
        if faults.strike("reply late", 0.1):
            # The ask is on its way: neither a cancellation nor the death of the host takes it back.
            with anyio.CancelScope(shield=True):
                await anyio.sleep(30)
        worker = world.make(worker_id, self, self._power)
        await self._power.check()
        if faults.strike("reply lost", 0.15):
            msg = "the line broke"
            raise OSError(msg)
        if faults.strike("reply junk", 0.05):
            return None  # type: ignore[return-value]
        return SimulatedSession(world, worker, self._power)

    async def discard(self, worker_id: WorkerId) -> None:
        await self._power.check()
        await anyio.sleep(0.05)
        await self._power.check()
        if self._world.faults.strike("discard fails", 0.4):
            msg = "the engine does not answer"
            raise OSError(msg)
        self._world.end(worker_id)

    async def close(self) -> None:
        await self._power.check()
        for worker_id in self._ours:
            self._world.end(worker_id)


class SimulatedSession(WorkerSession):
    """The line to a worker outside."""

    def __init__(self, world: World, worker: Outside, power: Power) -> None:
        self._world = world
        self._worker = worker
        self._power = power
        self._over = anyio.Event()

    async def run(self) -> None:
        faults, worker = self._world.faults, self._worker
        try:
            if faults.strike("worker lost", 0.3):
                with anyio.move_on_after(faults.chance.uniform(0, 30)):
                    await worker.gone.wait()
                await self._power.check()
                worker.lost = "it fell"
                worker.executions.clear()
                self._world.note(f"outside: {worker.id} falls")
                raise WorkerLostError(worker.lost)
            if faults.strike("worker silent", 0.2):
                with anyio.move_on_after(faults.chance.uniform(0, 30)):
                    await worker.gone.wait()
                worker.silent = True
                self._world.note(f"outside: {worker.id} is silent")
            await worker.gone.wait()
            await self._power.check()
        finally:
            self._over.set()

    async def heartbeat(self) -> None:
        await self._power.check()
        if self._worker.silent:
            await anyio.sleep_forever()

    async def terminate(self) -> None:
        await self._power.check()
        await anyio.sleep(0.05)
        if self._world.faults.strike("discard fails", 0.4):
            msg = "the engine does not answer"
            raise OSError(msg)
        await self._power.check()
        self._world.end(self._worker.id)

    def _check(self) -> None:
        if self._over.is_set() or self._worker.gone.is_set() or self._worker.lost:
            msg = "the worker is gone"
            raise WorkerLostError(msg)

    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        await self._power.check()
        self._check()
        if self._world.faults.strike("not started", 0.1):
            msg = "out of processes"
            raise NotStartedError(msg)
        kind, *words = str(execution.spec.command).split()
        seconds = math.inf if kind == "hang" else float(words[0]) if words else 0.0
        live = self._world.begin(self._worker, execution, seconds)
        output.started()
        for number in range(3):
            _say(execution, output, number)
        try:
            await self._until(live)
        except anyio.get_cancelled_exc_class():
            await self._end(live, output.grace)
            self._check()
            return Exit(code=143)
        await self._power.check()
        self._check()
        _say(execution, output, 3)
        output.finish(LogSource.STDOUT)
        output.finish(LogSource.STDERR)
        failing = kind == "fail" and execution.attempt <= int(words[1])
        return Exit(code=1 if failing or kind == "exit1" else 0)

    async def _until(self, live: Live) -> None:
        """Wait until an execution ends, or its worker is gone; a silent one never tells."""
        left = live.ends_at - self._world.clock.monotonic()
        with anyio.move_on_after(left if left < math.inf else None):
            await self._over.wait()
        if self._worker.silent:
            await self._over.wait()

    async def _end(self, live: Live, grace: float) -> None:
        """End an execution: at once, or not before its grace is over."""
        with anyio.CancelScope(shield=True):
            if self._worker.silent:
                await self._over.wait()
            elif live.job_id[0] in "01234":
                with anyio.move_on_after(grace):
                    await self._over.wait()
            await self._power.check()
        live.ends_at = min(live.ends_at, self._world.clock.monotonic())


def _say(execution: Execution, output: AttemptOutput, number: int) -> None:
    output.feed(LogSource.STDOUT, f"{execution.job_id} {execution.attempt} {number}\n".encode())
