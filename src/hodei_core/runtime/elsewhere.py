"""What other hosts of a shared store have, as far as the store tells."""

from __future__ import annotations

from collections.abc import Container

import attrs

from hodei_core.ids import HostId, WorkerId
from hodei_core.jobs import Job
from hodei_core.ports import JobFilter, Store
from hodei_core.runtime.explain import WorkerNote
from hodei_core.scheduling.candidates import Candidate
from hodei_core.states import JobState
from hodei_core.workers import Offer, Worker, WorkerState

_OPEN = frozenset({JobState.ASSIGNED, JobState.RUNNING})
_SERVING = (WorkerState.READY, WorkerState.BUSY, WorkerState.DRAINING)


async def offers_elsewhere(store: Store, mine: HostId) -> tuple[tuple[HostId, Offer], ...]:
    """Return what the workers of every other host have, or would have."""
    if store.hosts is None:
        return ()
    records = await store.hosts.select()
    gone = {mine, *await store.hosts.dead()}
    return tuple(
        (record.id, offer) for record in records if record.id not in gone for offer in record.offers
    )


async def live_workers(store: Store) -> list[Worker]:
    """Return the workers of a store, but for those of hosts that are certain to be dead."""
    workers = await store.workers.select()
    if store.hosts is None or not workers:
        return workers
    dead = await store.hosts.dead()
    return [worker for worker in workers if worker.host_id not in dead]


async def workers_elsewhere(store: Store, mine: Container[WorkerId]) -> tuple[WorkerNote, ...]:
    """Return the workers of other hosts, with what they have left.

    A host that closes offers nothing any more: its workers drain.
    """
    if store.hosts is None:
        return ()
    workers = [worker for worker in await live_workers(store) if worker.id not in mine]
    if not workers:
        return ()
    closing = {record.id for record in await store.hosts.select() if not record.offers}
    workers = [
        attrs.evolve(worker, state=WorkerState.DRAINING)
        if worker.host_id in closing and worker.state in _SERVING
        else worker
        for worker in workers
    ]
    of: dict[WorkerId, list[Job]] = {}
    if any(worker.jobs for worker in workers):
        for job in await store.jobs.select(JobFilter(states=_OPEN), limit=None):
            of.setdefault(job.attempt.worker_id, []).append(job)
    return tuple(_note(worker, of.get(worker.id, [])) for worker in workers)


def _note(worker: Worker, jobs: list[Job]) -> WorkerNote:
    offer = Offer(
        provider=worker.provider,
        slots=worker.slots,
        resources=worker.resources,
        labels=worker.labels,
        image=worker.image,
    )
    return WorkerNote(
        id=worker.id,
        offer=offer,
        state=worker.state,
        room=_room(worker, offer, jobs) if worker.state in _SERVING else None,
        jobs=worker.jobs,
        elsewhere=True,
    )


def _room(worker: Worker, offer: Offer, jobs: list[Job]) -> Candidate:
    room = Candidate(worker.id, offer)
    room.slots_used = worker.slots_used
    room.taking = worker.state is not WorkerState.DRAINING
    for job in jobs:
        room.cpus_free -= job.spec.resources.cpus
        if room.memory_free is not None:
            room.memory_free -= job.spec.resources.memory or 0
    return room
