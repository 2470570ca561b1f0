"""A provider of workers that exist on paper only, and fare as a script says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from hodei_core.checks import MAX_SLOTS, whole_number
from hodei_core.compat import override
from hodei_core.errors import ProvisionError
from hodei_core.executions import Execution
from hodei_core.frozendict import EMPTY
from hodei_core.ids import JobId, WorkerId
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import (
    NotStartedError,
    ProviderHost,
    StartFailedError,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.resources import Resources
from hodei_core.testing.acts import ACT, Act, Acts, Making, Makings, act_of, making_of
from hodei_core.testing.outside import LiveExecution, Outside, ScriptedWorker
from hodei_core.testing.scripted_session import ScriptedSession
from hodei_core.workers import Offer

_POLICY = WorkerPolicy(max_workers=16)
_MAKING = Making()


class ScriptedProvider(WorkerProvider):
    """Makes any number of workers, whose jobs and whose lives follow a script.

    Jobs take virtual time, print, fail, never end, lose their worker; workers come late, not at
    all or twice, fall silent, are lost, refuse to end. Nothing runs but on the event loop, and
    time is the clock's of the host: use it with a `FakeClock` or in a simulation.

    What exists outside, whatever the host believes, can be read at any time.

    Args:
        acts: what jobs do: one `Act` for all; a mapping from the job's name, or else its command
            (of arguments: as a shell would be given them), where jobs that are not named end at
            once; or a function of the `Execution`.
        makings: what becomes of workers: one `Making` for all; a sequence, whose last is
            repeated; or a function of the number of the ask, from 1.
        name: the provider's name.
        slots: how many jobs each worker runs at once.
        labels: what `requires` of a job is matched with.
        image: what `image` of a job is matched with.
        resources: what each worker has; None: one CPU per slot, and memory without limit.
        policy: how many workers there may be, and how long they live.

    Raises:
        ValueError: an argument is not acceptable; the message names it.
    """

    def __init__(
        self,
        acts: Acts = ACT,
        *,
        makings: Makings = _MAKING,
        name: str = "scripted",
        slots: int = 1,
        labels: Mapping[str, str] = EMPTY,
        image: str | None = None,
        resources: Resources | None = None,
        policy: WorkerPolicy = _POLICY,
    ) -> None:
        slots = whole_number("slots", slots, least=1, most=MAX_SLOTS)
        if isinstance(makings, Sequence) and not makings:
            msg = "makings must not be empty: its last one is repeated"
            raise ValueError(msg)
        self._offer = Offer(
            provider=name,
            slots=slots,
            resources=Resources(cpus=slots) if resources is None else resources,
            labels=labels,
            image=image,
        )
        self._policy = policy
        self._acts = acts
        self._makings = makings
        self._outside = Outside()
        self._sessions: dict[WorkerId, ScriptedSession] = {}
        self._refused: dict[JobId, int] = {}
        self.opened: int = 0
        """How often it was opened."""

        self.closed: int = 0
        """How often it was told to close."""

    # What is there

    @property
    def workers(self) -> Mapping[WorkerId, ScriptedWorker]:
        """Every worker that was ever asked for, in order."""
        return self._outside.workers

    @property
    def alive(self) -> list[WorkerId]:
        """The workers that exist now, in the order in which they came to be."""
        return list(self._outside.alive)

    @property
    def most_alive(self) -> int:
        """The most workers that ever existed at once."""
        return self._outside.most_alive

    @property
    def executing(self) -> list[LiveExecution]:
        """The attempts that run now, oldest first."""
        return list(self._outside.executing)

    @property
    def executed(self) -> list[LiveExecution]:
        """Every attempt that ever ran, in the order of the starts."""
        return list(self._outside.executed)

    @property
    def overlaps(self) -> list[tuple[LiveExecution, LiveExecution]]:
        """Attempts of one job that were alive at one time: it should be empty, always."""
        return list(self._outside.overlaps)

    @property
    def asked(self) -> int:
        """How many workers were asked for."""
        return len(self.workers)

    @property
    def asked_at(self) -> list[float]:
        """When each of them was, in seconds of the host's monotonic clock."""
        return [worker.asked_at for worker in self.workers.values()]

    @property
    def discards(self) -> int:
        """How often workers were told to end, by `terminate` or `discard`."""
        return sum(worker.discards for worker in self.workers.values())

    # What a test does

    def lose(self, worker_id: WorkerId, why: str = "it fell") -> None:
        """Have a worker be gone from one moment to the next.

        Raises:
            ValueError: there is no such worker.
        """
        self._sessions[self._existing(worker_id).id].lose(why)

    def silence(self, worker_id: WorkerId) -> None:
        """Have nothing be heard of a worker any more, though it goes on.

        Raises:
            ValueError: there is no such worker.
        """
        self._existing(worker_id).silent = True

    def _existing(self, worker_id: WorkerId) -> ScriptedWorker:
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != "alive":
            msg = f"there is no worker {worker_id!r}, alive are: {', '.join(self.alive) or 'none'}"
            raise ValueError(msg)
        return worker

    # WorkerProvider

    @property
    @override
    def offer(self) -> Offer:
        return self._offer

    @property
    @override
    def policy(self) -> WorkerPolicy:
        return self._policy

    @override
    async def open(self, host: ProviderHost) -> None:
        self._outside.clock = host.clock
        self.opened += 1

    @override
    async def provision(self, worker_id: WorkerId) -> WorkerSession:
        number = self.asked + 1
        making = making_of(self._makings, number)
        worker = self._outside.ask(worker_id, number, making)
        await self._pass(making)
        if making.error is not None:
            raise making.error
        if making.duplicate and self.alive:
            return self._sessions[self.alive[0]]
        session = self._sessions[worker_id] = ScriptedSession(worker, self._outside, self._act_of)
        self._outside.make(worker, session.cut)
        if making.reply_lost:
            if making.hangs:
                await anyio.sleep_forever()
            msg = "the reply was lost"
            raise ProvisionError(msg)
        return "junk" if making.junk else session  # type: ignore[return-value]

    async def _pass(self, making: Making) -> None:
        """Let the time pass that a making takes."""
        clock = self._outside.clock
        if making.late is not None:
            with anyio.CancelScope(shield=True):
                await clock.sleep(making.late.total_seconds())
        else:
            await clock.sleep(making.delay.total_seconds())
        if making.hangs and not making.reply_lost:
            await anyio.sleep_forever()

    def _act_of(self, execution: Execution) -> Act:
        act = act_of(self._acts, execution)
        if act.cannot_start is not None:
            raise StartFailedError(act.cannot_start)
        refused = self._refused.get(execution.job_id, 0)
        if refused < act.refuses:
            self._refused[execution.job_id] = refused + 1
            msg = f"refused {refused + 1} of {act.refuses} times"
            raise NotStartedError(msg)
        return act

    @override
    async def discard(self, worker_id: WorkerId) -> None:
        worker = self.workers.get(worker_id)
        if worker is not None:
            await self._outside.end(worker)

    @override
    async def close(self) -> None:
        self.closed += 1
        for worker in list(self.workers.values()):
            self._outside.gone(worker, "ended")
