"""Hosts on one simulated store without random faults, for tests that bring about their own."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from hodei_core import Hodei, JobHandle, JobState, WorkerPolicy, WorkerState
from hodei_core.testing import simulated_clock
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults, HostCrashed
from tests.simulation.history import History
from tests.simulation.store import HostClock, Power, SimulatedStore
from tests.simulation.world import SimulatedProvider, World


class SceneHost:
    """One host: what it is made of, and the `Hodei` once it is open."""

    def __init__(self, scene: Scene) -> None:
        self.power = Power()
        self.faults = Faults.none()
        clock = HostClock(simulated_clock(), self.power)
        self.store = SimulatedStore(scene.disk, self.power, self.faults, self.power.crash, clock)
        self.provider = SimulatedProvider(
            scene.world, self.power, "p0", slots=scene.slots, policy=scene.policy, cpus=2
        )
        self.clock = clock
        self.opened = anyio.Event()
        self.leave = anyio.Event()
        self.gone = anyio.Event()
        self.hodei: Hodei

    @property
    def host_id(self) -> str:
        """The incarnation that the host has now."""
        return list(self.store.mine)[-1]

    def crash(self) -> None:
        self.power.crash()

    async def serve(self) -> None:
        try:
            async with Hodei(self.store, providers=[self.provider], clock=self.clock) as hodei:
                self.hodei = hodei
                self.opened.set()
                await self.leave.wait()
        except BaseException as error:
            if not _is_crash(error):
                raise
        finally:
            self.gone.set()


class Scene:
    """A disk, a world, and hosts that come and go."""

    def __init__(
        self, tasks: TaskGroup, policy: WorkerPolicy | None = None, *, slots: int = 2
    ) -> None:
        self.tasks = tasks
        self.slots = slots
        self.policy = policy or WorkerPolicy(max_workers=2, idle_timeout=None)
        self.history = History()
        self.disk = Disk(self.history, simulated_clock().monotonic)
        self.world = World(self.disk, Faults.none(), self.history, simulated_clock())

    async def host(self) -> SceneHost:
        """Open a host."""
        host = SceneHost(self)
        self.tasks.start_soon(host.serve)
        await host.opened.wait()
        return host

    def state(self, job: JobHandle) -> JobState:
        """Return a job's state as it is stored."""
        return self.disk.jobs[job.id].state

    async def until(self, met: Callable[[], bool], seconds: float) -> float:
        """Return after how many seconds a fact is true, which must be within so many."""
        began = simulated_clock().monotonic()
        with anyio.fail_after(seconds):
            while not met():  # noqa: ASYNC110 - virtual time: a look costs nothing
                await anyio.sleep(0.05)
        return simulated_clock().monotonic() - began

    def ready(self, host: SceneHost) -> bool:
        """Return whether a worker of a host waits for jobs, as it is stored."""
        return any(
            worker.host_id == host.host_id and worker.state is WorkerState.READY
            for worker in self.disk.workers.values()
        )

    def runs(self, job: JobHandle) -> int:
        """Return how many executions of a job live outside."""
        return sum(live.job_id == job.id for live in self.world.live())


def _is_crash(error: BaseException) -> bool:
    if isinstance(error, HostCrashed):
        return True
    inner = getattr(error, "exceptions", None)
    return inner is not None and all(_is_crash(one) for one in inner)
