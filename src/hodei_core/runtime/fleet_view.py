"""The fleet as its scheduler sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hodei_core.jobs import Job
from hodei_core.runtime.provided import Provided
from hodei_core.scheduling.backlog import key_of
from hodei_core.scheduling.candidates import Candidate
from hodei_core.scheduling.filters import mismatch
from hodei_core.scheduling.index import WorkerIndex
from hodei_core.scheduling.needs import Needs
from hodei_core.scheduling.provider_view import ProviderView
from hodei_core.workers import Offer

_REMEMBERED = 1_024  # classes of needs whose providers are kept; more are worked out again


class SchedulerView:
    """Shows workers and providers; fulfils the protocol `FleetView`."""

    def __init__(self, index: WorkerIndex, provided: Mapping[str, Provided]) -> None:
        self._index = index
        self._provided = provided
        self._views: dict[str, ProviderView] | None = None
        self._able: dict[Needs, tuple[str, ...]] = {}
        self._job: Job | None = None

    @property
    def job(self) -> Job:
        """The job that is to be decided about."""
        assert self._job is not None, "decisions are about a job"  # noqa: S101
        return self._job

    @job.setter
    def job(self, job: Job) -> None:
        self._job = job

    def candidates(self, needs: Needs, most: int) -> Sequence[Candidate]:
        """Return workers on which the job fits now, at most `most`.

        First those that ran a job of its name, then others in rotation; if there are none, those
        that are kept for a job at its place or behind it.
        """
        found = self._index.candidates(needs, most)
        job = self.job
        if job.spec.name is not None:
            first = self._index.namesakes(job.spec.name, needs)
            if first:
                known = {worker.id for worker in first}
                return [*first, *(one for one in found if one.id not in known)][:most]
        if not found and self._index.keeps:
            return self._index.keepers(needs, key_of(job))[:most]
        return found

    def matching(self, needs: Needs) -> Sequence[Offer]:
        """Return the offers of live workers on which such a job could run, were they free."""
        return self._index.matching(needs)

    def providers(self) -> Sequence[ProviderView]:
        """Return every provider, in the order in which the user gave them."""
        return tuple(self._all().values())

    def able(self, needs: Needs) -> Sequence[ProviderView]:
        """Return the providers whose workers could run such a job, in the order given."""
        names = self._able.get(needs)
        if names is None:
            names = tuple(
                name
                for name, provided in self._provided.items()
                if mismatch(needs, provided.offer) is None
            )
            if len(self._able) >= _REMEMBERED:
                self._able.clear()
            self._able[needs] = names
        views = self._all()
        return [views[name] for name in names]

    def arriving(self) -> Iterator[tuple[Offer, int]]:
        """Return how many workers are on their way, by what they will have."""
        for view in self._all().values():
            if view.arriving:
                yield view.offer, view.arriving

    def changed(self) -> None:
        """Take note that something about a provider changed."""
        self._views = None

    def opened(self) -> None:
        """Take note that a provider was opened."""
        self._views = None
        self._able.clear()

    def _all(self) -> dict[str, ProviderView]:
        if self._views is None:
            self._views = {name: provided.view() for name, provided in self._provided.items()}
        return self._views
