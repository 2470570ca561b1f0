"""Workers as strategies see them, and the ring that hands them out in rotation."""

from __future__ import annotations

from hodei_core.ids import WorkerId
from hodei_core.resources import Resources
from hodei_core.workers import Offer


class Candidate:
    """A worker as strategies see it: read it, never change it."""

    __slots__ = (
        "cpus_free",
        "id",
        "last_used",
        "memory_free",
        "names",
        "offer",
        "slots_used",
        "taking",
    )

    def __init__(self, id: WorkerId, offer: Offer) -> None:  # noqa: A002 - the field's name
        self.id: WorkerId = id
        self.offer: Offer = offer
        self.slots_used: int = 0
        self.cpus_free: float = offer.resources.cpus
        self.memory_free: int | None = offer.resources.memory
        """Bytes that no job has reserved; None: no limit."""

        self.taking: bool = True
        """Whether it takes work; a draining worker does not."""

        self.last_used: int = 0
        """Grows with each reservation, of whichever worker; 0 if it was never used."""

        self.names: tuple[str, ...] = ()
        """The names of the last named jobs that it was given, each once, the last one last."""

    @property
    def slots_free(self) -> int:
        """How many more jobs it could run at once."""
        return self.offer.slots - self.slots_used

    @property
    def load(self) -> float:
        """The share of its slots that is in use, 0 to 1."""
        return self.slots_used / self.offer.slots

    def fits(self, resources: Resources) -> bool:
        """Return whether it has a free slot and that much left."""
        return (
            self.taking
            and self.slots_used < self.offer.slots
            and resources.cpus <= self.cpus_free
            and (
                resources.memory is None
                or self.memory_free is None
                or resources.memory <= self.memory_free
            )
        )


class Ring:
    """A set whose members are handed out in rotation; all operations are O(1) a member."""

    __slots__ = ("_items", "_next", "_places")

    def __init__(self) -> None:
        self._items: list[Candidate] = []
        self._places: dict[WorkerId, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Candidate) -> None:
        """Take in a worker."""
        self._places[item.id] = len(self._items)
        self._items.append(item)

    def remove(self, item: Candidate) -> None:
        """Take out a worker that is in."""
        place = self._places.pop(item.id)
        last = self._items.pop()
        if last is not item:
            self._items[place] = last
            self._places[last.id] = place

    def take(self, most: int) -> list[Candidate]:
        """Return the next workers in turn, at most `most`; all stay in."""
        items = self._items
        if len(items) <= most:
            return items[:]
        start = self._next % len(items)
        self._next = start + most
        taken = items[start : start + most]
        return taken + items[: most - len(taken)]
