"""What jobs need of a worker; jobs with equal needs are one class to the scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import attrs

from hodei_core.frozendict import EMPTY, FrozenDict
from hodei_core.resources import Resources
from hodei_core.specs import JobSpec


def _frozen(items: Mapping[str, str]) -> FrozenDict[str]:
    return items if isinstance(items, FrozenDict) else FrozenDict(items)


@attrs.frozen(kw_only=True, cache_hash=True, weakref_slot=False)
class Needs:
    """A class of needs: what decides on which workers a job can run."""

    resources: Resources = attrs.field(default=Resources())
    image: str | None = None
    requires: Mapping[str, str] = attrs.field(default=EMPTY, converter=_frozen)
    provider: str | None = None
    prefers: str | None = None
    """The provider that comes first, if it can; it decides the order, not what is possible."""

    @classmethod
    def of(cls, spec: JobSpec) -> Needs:
        """Return the needs of a job: of jobs that need the same, as a rule the same object."""
        return _interned(spec.resources, spec.image, spec.requires, spec.provider, spec.prefers)


@lru_cache(maxsize=4_096)
def _interned(
    resources: Resources,
    image: str | None,
    requires: Mapping[str, str],
    provider: str | None,
    prefers: str | None,
) -> Needs:
    return Needs(
        resources=resources, image=image, requires=requires, provider=provider, prefers=prefers
    )
