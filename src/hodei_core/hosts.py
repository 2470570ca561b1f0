"""Hosts that share a store, as the store shows them."""

from __future__ import annotations

import attrs

from hodei_core.ids import HostId
from hodei_core.values import Value
from hodei_core.workers import Offer


@attrs.frozen(kw_only=True, eq=False, repr=False)
class HostRecord(Value):
    """A host that dispatches from a store, as it told of itself last."""

    id: HostId
    """Its incarnation."""

    beat: int = 0
    """One more with each renewal of its lease: a host whose beat stands still is dead."""

    offers: tuple[Offer, ...] = ()
    """What its workers have, or would have."""
