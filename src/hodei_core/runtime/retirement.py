"""When workers go: too old, or idle for too long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hodei_core.clock import Clock
from hodei_core.runtime.deadlines import Deadline, Deadlines
from hodei_core.runtime.member import Member
from hodei_core.runtime.provided import Provided
from hodei_core.scheduling.index import WorkerIndex

_PARTS = 20  # an idle worker may stay this part of its idle_timeout longer than it must
_NEVER = float("inf")
_ROUNDING = 1e-6  # seconds: a timer may fire that much early


class Retirement:
    """Looks at the workers of each provider when the next of them may have to go.

    One deadline per provider, and at most twenty looks within its idle timeout, however many
    workers there are.
    """

    def __init__(
        self,
        *,
        index: WorkerIndex,
        clock: Clock,
        deadlines: Deadlines,
        drain: Callable[[Member], None],
    ) -> None:
        self._index = index
        self._clock = clock
        self._deadlines = deadlines
        self._drain = drain
        self._armed: dict[str, Deadline] = {}

    def arm(self, provided: Provided) -> None:
        """Take note that one of the provider's workers became ready or idle."""
        policy = provided.policy
        if policy.idle_timeout is None and policy.max_lifetime is None:
            return
        armed = self._armed.get(provided.name)
        if armed is not None:
            # It may wait for the end of a lifetime; what became idle now goes before that.
            if policy.idle_timeout is None or armed.at <= self._clock.monotonic() + (
                policy.idle_timeout.total_seconds() * (1 + 1 / _PARTS)
            ):
                return
            armed.cancel()
        at = min(map(partial(self._goes_at, provided), provided.members.values()), default=_NEVER)
        if at == _NEVER:
            return
        if policy.idle_timeout is not None:
            pause = policy.idle_timeout.total_seconds() / _PARTS
            at = max(at, self._clock.monotonic() + pause)
        self._armed[provided.name] = self._deadlines.at(at, partial(self._look, provided))

    def _goes_at(self, provided: Provided, member: Member) -> float:
        """Return when a worker must go if nothing changes, by the monotonic clock."""
        if not member.serving:
            return _NEVER
        policy = provided.policy
        at = _NEVER
        if policy.max_lifetime is not None:
            at = member.ready + policy.max_lifetime.total_seconds()
        if policy.idle_timeout is not None and not self._index[member.id].slots_used:
            at = min(at, member.freed + policy.idle_timeout.total_seconds())
        return at

    def _look(self, provided: Provided) -> None:
        del self._armed[provided.name]
        now = self._clock.monotonic() + _ROUNDING
        self._end_old(provided, now)
        self._end_idle(provided, now)
        self.arm(provided)

    def _end_old(self, provided: Provided, now: float) -> None:
        if provided.policy.max_lifetime is None:
            return
        before = now - provided.policy.max_lifetime.total_seconds()
        for member in list(provided.members.values()):
            if member.serving and member.ready <= before:
                self._drain(member)

    def _end_idle(self, provided: Provided, now: float) -> None:
        policy = provided.policy
        if policy.idle_timeout is None:
            return
        before = now - policy.idle_timeout.total_seconds()
        serving = [member for member in provided.members.values() if member.serving]
        spare = max(len(serving) - policy.min_workers, 0)
        idle = [m for m in serving if not self._index[m.id].slots_used and m.freed <= before]
        for member in sorted(idle, key=lambda m: m.freed)[:spare]:
            self._drain(member)
