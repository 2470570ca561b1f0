"""One simulated history: hosts, users and faults, until all is well and everything has ended."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import anyio
import attrs

from hodei_core import (
    Backoff,
    Event,
    Hodei,
    HodeiError,
    Job,
    JobEvent,
    JobHandle,
    JobSpec,
    JobState,
    Needs,
    Resources,
    RetryPolicy,
    SubscriberLagged,
    WaitingFor,
    WorkerPolicy,
)
from hodei_core.ids import JobId
from hodei_core.runtime import dispatcher
from hodei_core.states import Reason
from hodei_core.testing import run_simulated, simulated_clock
from tests.simulation.disk import Disk, at_once
from tests.simulation.faults import Faults, HostCrashed, InvariantError
from tests.simulation.history import History
from tests.simulation.store import HostClock, Power, SimulatedStore
from tests.simulation.world import SimulatedProvider, World

ACTIONS = 100
IDLE_SECONDS = 5
"""That a job may wait beside a worker that has room for it."""

ENDLESS = JobSpec("hang", grace=2.0)
"""What only a cancel ends."""

CLOSING_SECONDS = 150
"""Within which a host closes that is left by an exception."""

LATEST_SECONDS = 15
"""After the last fault, by which the last answer that took long has come."""

SETTLE_SECONDS = 1_800.0
"""Of virtual time, within which everything must have ended once the faults have stopped."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one seed."""

    seed: int
    digest: str
    facts: int
    jobs: int
    faults: dict[str, int]
    problem: str | None = None
    last: tuple[str, ...] = ()


def run(seed: int, actions: int = ACTIONS, *, shadow: bool = False) -> Outcome:
    """Run the history of a seed; `shadow`: with the SQL of the SQLite store beside it."""
    simulation = Simulation(seed, actions, shadow=shadow)
    problem = None
    # Without the look that bounds the cost of a missed wake-up: here one is to show.
    safety, dispatcher._SAFETY_SECONDS = dispatcher._SAFETY_SECONDS, 1e9
    try:
        run_simulated(simulation.main, seed=seed, limit=100 * SETTLE_SECONDS)
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        problem = "; ".join(_causes(error))
    finally:
        dispatcher._SAFETY_SECONDS = safety
        simulation.disk.close()
    if simulation.history.violations:  # whatever became of it after that
        problem = simulation.history.violations[0]
    return Outcome(
        seed=seed,
        digest=simulation.history.digest(),
        facts=simulation.history.count,
        jobs=len(simulation.disk.jobs),
        faults=simulation.faults.counts,
        problem=problem,
        last=tuple(simulation.history.last) if problem else (),
    )


def _causes(error: BaseException) -> list[str]:
    inner = getattr(error, "exceptions", None)
    if inner is None:
        return [f"{type(error).__name__}: {error}"]
    return [text for one in inner for text in _causes(one)]


class LeftError(Exception):
    """Ends the block of a host."""


class Member:
    """A host of the simulation, and what its users know."""

    def __init__(self, name: str, *, client: bool = False) -> None:
        self.name = name
        self.power = Power()
        self.client = client
        """Whether it only submits and reads."""

        self.fails = False
        """Whether it leaves by an exception."""

        self.store: SimulatedStore | None = None
        self.hodei: Hodei | None = None
        self.leave = anyio.Event()
        self.gone = anyio.Event()


class Simulation:
    """Draws actions and faults from a seed and plays them."""

    def __init__(self, seed: int, actions: int, *, shadow: bool = False) -> None:
        self.chance = random.Random(f"simulation {seed}")
        self.history = History()
        self.faults = Faults.of(self.chance)
        self.disk = Disk(self.history, self._now, shadow=shadow)
        self.actions = actions
        self.world: World
        self.members: list[Member] = []
        self.acked: dict[JobId, None] = {}
        self.slots = self.chance.choice((1, 1, 2, 4))
        self.policies = [self._policy() for _ in range(self.chance.choice((1, 2, 3)))]
        self._acts = [self._submit] * 10 + [self._read] * 3 + [self._cancel] * 3
        self._acts += [self._ask, self._ask, self._drain, self._retry, self._give_up_waiting]
        self._acts += [self._give_up_running] * 2 + [self._join]
        self._ended: set[JobId] = set()
        self._acting = 0
        self._passed: dict[JobId, int] = {}
        self._closing = False
        self._started = False
        self._numbers = 0

    def _now(self) -> float:
        return simulated_clock().monotonic() if self._started else 0.0

    def _policy(self) -> WorkerPolicy:
        chance = self.chance
        return WorkerPolicy(
            min_workers=chance.choice((0, 0, 1)),
            max_workers=chance.choice((1, 2, 4)),
            idle_timeout=chance.choice((5, 30, None)),
            max_lifetime=chance.choice((None, None, 40)),
            max_jobs=chance.choice((None, None, 1, 3)),
            startup_timeout=15,
            starts_per_minute=chance.choice((None, None, 6)),
        )

    async def main(self) -> None:
        """Play the whole history."""
        self._started = True
        self.world = World(self.disk, self.faults, self.history, simulated_clock())
        async with anyio.create_task_group() as tasks:
            self.tasks = tasks
            try:
                await self._play()
            finally:  # a host that is stopped could not even be cancelled
                for member in self.members:
                    member.power.go_on()
            tasks.cancel_scope.cancel()
        self._check_end()

    async def _play(self) -> None:
        self._add_host("a")
        if "second host" in self.faults.kinds:
            self._add_host("b")
        if "client" in self.faults.kinds:
            self._add_host("c", client=True)
        for _ in range(self.actions):
            await self._act()
        self.faults.stop()
        self.history.note(self._now(), "faults stop")
        for member in self.members:
            member.power.go_on()
        for member in self.members:
            if member.store is not None and member.store.gone:
                self._leave(member, fails=True)
        if not any(not m.client and not m.leave.is_set() for m in self._alive()):
            self._add_host("z")
        await self._settle()
        await self._close()

    # Hosts

    def _alive(self) -> list[Member]:
        return [m for m in self.members if not m.power.dead and not m.gone.is_set()]

    def _add_host(self, name: str, *, client: bool = False) -> None:
        member = Member(f"{name}{len(self.members)}", client=client)
        self.members.append(member)
        self.tasks.start_soon(self._serve, member)

    def _crash(self, member: Member) -> None:
        if member.power.dead:
            return
        self.history.note(self._now(), f"host {member.name} crashes")
        member.power.crash()
        self.tasks.start_soon(self._restart, member)

    async def _restart(self, member: Member) -> None:
        await anyio.sleep(self.chance.choice((0.1, 3.0, 20.0)))
        if not self._closing:
            self._add_host(member.name[0], client=member.client)

    async def _serve(self, member: Member) -> None:
        clock = HostClock(simulated_clock(), member.power)
        store = SimulatedStore(
            self.disk, member.power, self.faults, lambda: self._crash(member), clock
        )
        providers = [
            SimulatedProvider(
                self.world,
                member.power,
                f"p{number}",
                slots=self.slots,
                policy=policy,
                cpus=max(self.slots, 2),
            )
            for number, policy in enumerate(self.policies)
        ]
        member.store = store
        most = 10 if "few pending" in self.faults.kinds else None
        given = [] if member.client else providers
        try:
            async with Hodei(store, providers=given, clock=clock, max_pending=most) as hodei:
                self.history.note(self._now(), f"host {member.name} is open")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch, hodei)
                    member.hodei = hodei
                    await member.leave.wait()
                    tasks.cancel_scope.cancel()
                self._check_leaving(member)
        except LeftError:
            pass
        except Exception:
            if not member.power.dead:
                if member.hodei is not None:
                    raise
                # It could not be opened; somebody tries again.
                self.tasks.start_soon(self._restart, member)
        except BaseException as error:
            if not _is_crash(error):
                raise
        finally:
            member.hodei = None
            member.gone.set()
            self.history.note(self._now(), f"host {member.name} is gone")
            if member.leave.is_set() and not member.power.dead:
                self.tasks.start_soon(self._restart, member)

    def _check_leaving(self, member: Member) -> None:
        how = "by an exception" if member.fails else "normally"
        self.history.note(self._now(), f"host {member.name} leaves {how}")
        if member.fails:
            raise LeftError

    async def _watch(self, hodei: Hodei) -> None:
        """Hold what is true of the events that a host tells."""
        versions: dict[str, int] = {}
        async with hodei.events() as stream:
            async for event in stream:
                self._check_event(event, versions)

    def _check_event(self, event: Event, versions: dict[str, int]) -> None:
        if isinstance(event, SubscriberLagged) or not isinstance(event, JobEvent):
            return
        self.history.note(self._now(), f"{type(event).__name__} {event.job_id[:8]}")
        if type(event).__name__ == "JobStuck":
            return
        last = versions.get(event.job_id, 0)
        if event.version <= last:
            msg = f"I10: {event.job_id} version {event.version} is told after {last}"
            raise InvariantError(msg)
        stored = self.disk.jobs.get(event.job_id)
        if stored is not None and stored.version < event.version:
            msg = f"I10: {event.job_id} version {event.version} is told before it is stored"
            raise InvariantError(msg)
        versions[event.job_id] = event.version

    # Users

    async def _act(self) -> None:
        chance = self.chance
        await simulated_clock().sleep(chance.choice((0.0, 0.0, 0.0, 0.1, 0.5, 3.0)))
        self.history.check()
        alive = [m for m in self._alive() if m.hodei is not None]
        if self.faults.strike("wall jump", 0.05):
            simulated_clock().jump(chance.choice((-60, -5, 5, 3600)))
        if alive and self.faults.strike("host pause", 0.03):
            self.tasks.start_soon(self._pause, chance.choice(alive))
            return
        if alive and self.faults.strike("host crash", 0.03):
            self._crash(chance.choice(alive))
            return
        if alive and self.faults.strike("host leaves", 0.02):
            self._leave(chance.choice(alive), fails=chance.choice((False, True)))
            return
        if alive and self.faults.strike("store gone", 0.01):
            self._lose_store(chance.choice(alive))
            return
        if alive and self.faults.strike("prune", 0.05):
            self._user(chance.choice(alive), self._prune)
            return
        if alive and self.faults.strike("cancel many", 0.02):
            self._user(chance.choice(alive), self._cancel_many)
            return
        if not alive:
            return
        member = chance.choice(alive)
        acts = [act for act in self._acts if act is not self._cancel or self._cancels]
        self._user(member, chance.choice(acts))

    def _leave(self, member: Member, *, fails: bool) -> None:
        if not member.leave.is_set():
            member.fails = fails
            member.leave.set()
            if fails:
                self.tasks.start_soon(self._watch_leaving, member)

    def _lose_store(self, member: Member) -> None:
        assert member.store is not None
        self.history.note(self._now(), f"host {member.name} loses its store")
        member.store.gone = True
        self.tasks.start_soon(self._leave_later, member)

    async def _leave_later(self, member: Member) -> None:
        await anyio.sleep(self.chance.choice((0.0, 0.5, 5.0, 30.0)))
        self._leave(member, fails=True)

    async def _watch_leaving(self, member: Member) -> None:
        """Hold that one that leaves by an exception is soon gone."""
        with anyio.move_on_after(CLOSING_SECONDS) as scope:
            await member.gone.wait()
        if scope.cancelled_caught and member.power.on:
            msg = f"L7: {member.name} does not close"
            raise self.history.broken(msg)

    async def _prune(self, hodei: Hodei) -> None:
        await hodei.prune(older_than=self.chance.choice((0, 0, 5)))

    async def _cancel_many(self, hodei: Hodei) -> None:
        await hodei.cancel_jobs(name="nightly", reason="all of them")

    async def _join(self, hodei: Hodei) -> None:
        with anyio.move_on_after(60):
            await hodei.join()

    @property
    def _cancels(self) -> bool:
        return "wild cancel" in self.faults.kinds

    def _user(self, member: Member, act: Callable[[Hodei], Awaitable[None]]) -> None:
        bounded = act in (
            self._submit,
            self._retry,
            self._read,
            self._cancel,
            self._cancel_many,
            self._prune,
        )
        self._acting += bounded
        self.tasks.start_soon(self._as_user, member.hodei, act, bounded)

    async def _as_user(
        self, hodei: Hodei | None, act: Callable[[Hodei], Awaitable[None]], bounded: bool
    ) -> None:
        assert hodei is not None
        try:
            await act(hodei)
        except HodeiError:
            return
        except BaseException as error:
            if not _is_crash(error):
                raise
        finally:
            self._acting -= bounded

    async def _pause(self, member: Member) -> None:
        if not self.faults.on:
            return
        self.history.note(self._now(), f"host {member.name} stops")
        member.power.pause()
        await anyio.sleep(self.chance.choice((1.0, 9.0, 30.0)))
        member.power.go_on()
        self.history.note(self._now(), f"host {member.name} goes on")

    @property
    def _pending_timeouts(self) -> tuple[float | None, ...]:
        return (None, None, 2.0, 15.0) if "pending timeout" in self.faults.kinds else (None,)

    def _spec(self) -> JobSpec:
        chance = self.chance
        self._numbers += 1
        command = chance.choice(
            ("run 0", "run 1", "run 5", "run 20", "exit1 1", "fail 1 1", "hang")
        )
        timeout = 10.0 if command == "hang" else chance.choice((None, None, 8.0))
        return JobSpec(
            command,
            name=chance.choice((None, "nightly")),
            key=chance.choice((None, None, f"k{self._numbers % 7}")),
            delay=chance.choice((None, None, 3.0)),
            pending_timeout=chance.choice(self._pending_timeouts),
            priority=chance.choice((0, 0, 5)),
            timeout=timeout,
            grace=2.0,
            resources=Resources(cpus=chance.choice((0.5, 1, 2))),
            prefers=chance.choice((None, None, "p0", "p1")),
            retry=RetryPolicy(
                max_attempts=chance.choice((1, 1, 3)),
                backoff=Backoff(first=0.5, max=4),
                requeue_interrupted=chance.choice((False, True)),
            ),
        )

    async def _submit(self, hodei: Hodei) -> None:
        specs = [self._spec() for _ in range(self.chance.choice((1, 1, 1, 3)))]
        handles = await hodei.submit_many(specs)
        self.acked.update(dict.fromkeys(handle.id for handle in handles))
        if self.chance.random() < 0.3:
            await self._wait(handles[0])

    async def _ask(self, hodei: Hodei) -> None:
        """Ask what can be asked; hold that the answers agree."""
        stats = await hodei.stats()
        if stats.slots_used > stats.slots_total:
            msg = f"I5: {stats.slots_used} of {stats.slots_total} slots are in use"
            raise InvariantError(msg)
        for name, provider in stats.providers.items():
            if provider.max_workers < sum(provider.workers.values()):
                msg = f"I8: {name} has {provider.workers}"
                raise InvariantError(msg)
        await hodei.list_workers()
        for job in await hodei.list_jobs(limit=3):
            explanation = await hodei.handle(job.id).explain()
            spent = sum((lasted for _, lasted, _ in explanation.history), timedelta(0))
            if spent < timedelta(0):
                msg = f"history: {job.id} {explanation.history}"
                raise InvariantError(msg)

    async def _drain(self, hodei: Hodei) -> None:
        with anyio.move_on_after(2):
            await hodei.drain()
        await hodei.resume()

    async def _retry(self, hodei: Hodei) -> None:
        jobs = [self.disk.jobs[job_id] for job_id in self.acked if job_id in self.disk.jobs]
        final = [job.id for job in jobs if job.state.is_final]
        if final:
            handle = await hodei.handle(self.chance.choice(final)).retry()
            self.acked[handle.id] = None

    async def _give_up_waiting(self, hodei: Hodei) -> None:
        """Wait for a job, but not for long; nothing happens to it."""
        if self.acked:
            with suppress(TimeoutError):
                await hodei.handle(self.chance.choice(list(self.acked))).wait(timeout=0.7)

    async def _give_up_running(self, hodei: Hodei) -> None:
        """Run one or some jobs that end in no other way, and give that up at some moment."""
        pause = self.chance.choice((0, 0.01, 0.1, 1.0))

        async def run_one(hodei: Hodei) -> None:
            with anyio.move_on_after(pause):
                await hodei.run(ENDLESS)

        for _ in range(self.chance.choice((0, 0, 1, 3))):
            self.tasks.start_soon(self._as_user, hodei, run_one, False)
        await run_one(hodei)

    def _end_the_endless(self) -> None:
        """Cancel what nobody did: a request that is stored needs no other."""
        for job in self.disk.jobs.values():
            asked = job.id in self.disk.cancels or job.id in self._ended
            if job.spec.command == ENDLESS.command and not job.spec.timeout and not asked:
                staying = [m.hodei for m in self._alive() if m.hodei and not m.leave.is_set()]
                if not staying:
                    return
                self._ended.add(job.id)
                hodei = staying[0]
                cancel = partial(self._cancel_one, job.id)
                self.tasks.start_soon(self._as_user, hodei, cancel, False)

    async def _cancel_one(self, job_id: JobId, hodei: Hodei) -> None:
        await hodei.handle(job_id).cancel()

    async def _wait(self, handle: JobHandle) -> None:
        result = await handle.wait()
        job = self.disk.jobs.get(handle.id)
        if job is not None and job.state is not result.state:
            msg = f"I1: {handle.id} was {result.state.name} for one who waited"
            raise InvariantError(msg)

    async def _read(self, hodei: Hodei) -> None:
        """Follow a log to its end, and hold its numbers and its text."""
        if not self.acked:
            return
        job_id = self.chance.choice(list(self.acked))
        last = 0
        async for entry in hodei.handle(job_id).logs():
            torn = bool(entry.lost and entry.text)  # its host died, as hosts do here
            if entry.lost and not torn:
                msg = f"I9: {job_id} lost {entry.lost} entries"
                raise InvariantError(msg)
            if entry.seq != last + 1:
                msg = f"I9: {job_id} entry {entry.seq} follows {last}"
                raise InvariantError(msg)
            if not torn and not entry.text.startswith(f"{job_id} {entry.attempt} "):
                msg = f"I9: {job_id} entry {entry.seq} is {entry.text!r}"
                raise InvariantError(msg)
            last = entry.seq

    async def _cancel(self, hodei: Hodei) -> None:
        if not self.acked:
            return
        job_id = self.chance.choice(list(self.acked))
        result = await hodei.handle(job_id).cancel()
        job = self.disk.jobs.get(job_id)
        if job is not None and (not job.state.is_final or job.state is not result.state):
            msg = f"promise 8: {job_id} is {job.state.name} after cancel said {result.state.name}"
            raise InvariantError(msg)
        if any(one.job_id == job_id for one in self.world.live()):
            msg = f"promise 8: {job_id} lives after it was cancelled"
            raise InvariantError(msg)

    # The end

    async def _settle(self) -> None:
        """Wait until every job is final and no worker is left that is not to be kept."""
        ends = self._now() + SETTLE_SECONDS
        while self._left():
            if self._now() > ends:
                left = f"{self._left()} {await self._why()}"
                msg = f"liveness: {left} after {SETTLE_SECONDS:g} s without faults"
                raise InvariantError(msg)
            if self._now() > ends - SETTLE_SECONDS + LATEST_SECONDS:
                self._check_idle()
            self.history.check()
            if any(m.hodei is not None for m in self._alive()):
                self._end_the_endless()
            await simulated_clock().sleep(1)

    def _check_idle(self) -> None:
        """Hold that no job waits for long beside a worker that has room for it."""
        passed: dict[JobId, int] = {}
        waiting = [
            (job, Needs.of(job.spec))
            for job in self.disk.jobs.values()
            if job.waiting_for is WaitingFor.CAPACITY
            and job.spec.prefers is None
            and self.disk.covers.get(job.id) is None
        ]
        for member in self._alive() if waiting else ():
            if member.hodei is None or member.leave.is_set():
                continue
            index = member.hodei._host.fleet.index
            if member.hodei._host.dispatcher.draining or member.hodei._host.dispatcher._paused:
                continue
            for job, needs in waiting:
                if any(
                    worker.fits(needs.resources) and index.kept(worker.id) is None
                    for worker in index.workers()
                ):
                    passed[job.id] = self._passed.get(job.id, 0) + 1
                    if passed[job.id] > IDLE_SECONDS:
                        msg = f"{job.id} waits beside a worker of {member.name} that has room"
                        raise InvariantError(msg)
        self._passed = passed

    def _left(self) -> str:
        open_ = [job for job in self.disk.jobs.values() if not job.state.is_final]
        if open_:
            job = open_[0]
            return f"L1: {len(open_)} jobs are not final, as {job.id} ({job.state.name})"
        if not any(m.hodei is not None and not m.client for m in self._alive()):
            return "no host is open"
        living = {m.hodei._host.fleet.host_id for m in self._alive() if m.hodei is not None}
        gone = self.disk.hosts.keys() - living
        if gone:
            return f"L2: dead, and still registered: {sorted(gone)}"
        lost = [worker.id for worker in self.world.workers.values() if worker.owner.dead]
        lost += [w.id for w in self.disk.workers.values() if w.host_id not in self.disk.hosts]
        if lost:
            return f"L3: left by dead hosts: {lost}"
        if self._acting:
            return f"L4, L5: {self._acting} users submit, or read a log"
        return ""

    async def _why(self) -> str:
        """Return what the hosts say of the first job that has not ended."""
        job = next((job for job in self.disk.jobs.values() if not job.state.is_final), None)
        hosts = [member.hodei for member in self._alive() if member.hodei is not None]
        if job is None:
            return ""
        return "; ".join([str(await hodei.handle(job.id).explain()) for hodei in hosts])

    async def _close(self) -> None:
        """Close every host; nothing may be left."""
        self._closing = True
        for member in self.members:
            member.leave.set()
        with anyio.move_on_after(120) as scope:
            for member in self.members:
                await member.gone.wait()
        if scope.cancelled_caught:
            msg = "L7: a host does not close"
            raise InvariantError(msg)

    def _check_end(self) -> None:
        for job_id in self.acked:
            job = self.disk.jobs.get(job_id)
            if job is None and job_id in self.disk.pruned:
                continue
            if job is None or not job.state.is_final:
                msg = f"I11: {job_id} was accepted and is {job and job.state.name}"
                raise InvariantError(msg)
        lost = list(self.world.workers)
        if lost:
            msg = f"L3: left outside when every host has closed: {lost}"
            raise InvariantError(msg)
        for job in self.disk.jobs.values():
            if job.state is JobState.SUCCEEDED and job.spec.command == "exit1 1":
                msg = f"{job.id} cannot have succeeded"
                raise InvariantError(msg)
            if job.state is JobState.SUCCEEDED:
                self._check_log(job)
            if job.reason is Reason.UNSCHEDULABLE:
                msg = f"promise 12: {job.id} could be placed"
                raise InvariantError(msg)

    def _check_log(self, job: Job) -> None:
        """Hold that all is stored that a job's last attempt printed."""
        number = job.attempt.number
        segments = at_once(self.disk.model.logs.read(job.id, after=0, max_bytes=1 << 20))
        text = b"".join(one.data for one in segments if one.attempt == number).decode()
        printed = "".join(f"{job.id} {number} {line}\n" for line in range(4))
        if text != printed:
            msg = f"I9: {job.id} printed {printed!r}, and stored is {text!r}"
            raise InvariantError(msg)


def _is_crash(error: BaseException) -> bool:
    if isinstance(error, HostCrashed):
        return True
    inner = getattr(error, "exceptions", None)
    return inner is not None and all(_is_crash(one) for one in inner)
