"""A provider whose workers fail as told: lost, absurd, unable to start what they are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from hodei_core import Execution, Exit, Offer, Resources, WorkerId, WorkerPolicy
from hodei_core.ports import (
    AttemptOutput,
    NotStartedError,
    ProviderHost,
    StartFailedError,
    WorkerLostError,
    WorkerProvider,
    WorkerSession,
)


class ScriptedSession(WorkerSession):
    """Runs commands: `ok`, `lose` (its worker is lost), `not started`, `cannot start`, `absurd`.

    `starts late` waits for `late_start`, and then hangs.
    """

    def __init__(self) -> None:
        self.late_start = anyio.Event()
        self.graces: list[float] = []
        """What each hanging attempt was given when it was ended."""

        self._end = anyio.Event()
        self._lost: BaseException | None = None

    def lose(self, error: BaseException) -> None:
        self._lost = error
        self._end.set()

    async def run(self) -> None:
        await self._end.wait()
        if self._lost is not None:
            raise self._lost

    async def heartbeat(self) -> None:
        return None

    async def terminate(self) -> None:
        self._end.set()

    async def execute(self, execution: Execution, output: AttemptOutput) -> Exit:
        command = execution.spec.command
        if command == "not started":
            msg = "out of descriptors"
            raise NotStartedError(msg)
        if command == "cannot start":
            msg = "no such program"
            raise StartFailedError(msg)
        if command == "absurd":
            msg = "absurd"
            raise ZeroDivisionError(msg)
        if command == "never starts":
            await anyio.sleep_forever()
        if command == "starts late":
            await self.late_start.wait()
        output.started()
        if command == "lose":
            self.lose(WorkerLostError("it fell"))
        if command in ("hang", "starts late"):
            try:
                await self._end.wait()
            except anyio.get_cancelled_exc_class():
                self.graces.append(output.grace)
                raise
        if self._lost is not None:
            msg = "it fell"
            raise WorkerLostError(msg)
        return Exit(code=0)


class ScriptedProvider(WorkerProvider):
    """Makes scripted workers; `provisioning` is awaited each time and may raise."""

    def __init__(
        self,
        *,
        name: str = "scripted",
        slots: int = 1,
        provisioning: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._offer = Offer(provider=name, slots=slots, resources=Resources(cpus=slots))
        self._provisioning = provisioning
        self.sessions: list[ScriptedSession] = []
        self.asked = 0

    @property
    def offer(self) -> Offer:
        return self._offer

    @property
    def policy(self) -> WorkerPolicy:
        return WorkerPolicy(min_workers=1, lease=None)

    async def open(self, host: ProviderHost) -> None:
        return None

    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        self.asked += 1
        if self._provisioning is not None:
            await self._provisioning(self.asked)
        session = ScriptedSession()
        self.sessions.append(session)
        return session

    async def discard(self, worker_id: WorkerId) -> None:
        return None

    async def close(self) -> None:
        for session in self.sessions:
            await session.terminate()
