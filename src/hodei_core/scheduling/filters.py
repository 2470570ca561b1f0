"""Whether a worker could run a job at all, and in words why not."""

from __future__ import annotations

from hodei_core.resources import format_bytes
from hodei_core.scheduling.needs import Needs
from hodei_core.workers import Offer


def mismatch(needs: Needs, offer: Offer) -> str | None:
    """Return why a worker with this offer can never run such a job; None if it could.

    The offer is taken as a whole: what other jobs use of it at the moment does not count.
    """
    if needs.provider is not None and needs.provider != offer.provider:
        return f"it is of provider {offer.provider!r}, the job wants {needs.provider!r}"
    if needs.image is not None and needs.image != offer.image:
        has = "no image" if offer.image is None else f"image {offer.image!r}"
        return f"it offers {has}, the job wants {needs.image!r}"
    for name, value in needs.requires.items():
        if name not in offer.labels:
            return f"it has no label {name!r}, the job requires {name}={value}"
        if offer.labels[name] != value:
            return f"its label {name!r} is {offer.labels[name]!r}, the job requires {value!r}"
    return _too_small(needs, offer)


def _too_small(needs: Needs, offer: Offer) -> str | None:
    wanted, offered = needs.resources, offer.resources
    if wanted.cpus > offered.cpus:
        return f"it has {_cpus(offered.cpus)}, the job asks for {wanted.cpus:g}"
    if not wanted <= offered:
        assert wanted.memory is not None  # noqa: S101 - narrows: only a stated need can be too large
        assert offered.memory is not None  # noqa: S101 - narrows: only a stated limit can be too small
        return (
            f"it has {format_bytes(offered.memory)} of memory, "
            f"the job asks for {format_bytes(wanted.memory)}"
        )
    return None


def _cpus(count: float) -> str:
    return f"{count:g} CPU" + ("" if count == 1 else "s")
