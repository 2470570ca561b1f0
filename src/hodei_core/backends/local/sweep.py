"""What a host does when a guard has died: it ends what that guard had started.

Without its guard a job runs on, adopted by the system's first process. Of a host that lives only
what belongs to the jobs that ran is ended: another guard of that host has jobs of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

import attrs

from hodei_core.backends.local.environment import OUTER_JOBS
from hodei_core.backends.local.guard import marks_of, stat_of

_LOOK_SECONDS = 0.005
_UNSURE_LOOKS = 50
"""How often all is looked at again for what is in the midst of an exec, and has no marks then."""


@attrs.frozen(kw_only=True)
class Lost:
    """What is known of the jobs whose guard has died."""

    host_id: str
    job_ids: frozenset[str]
    leaders: frozenset[int]
    """The pids of those leaders that the guard had told of: they lead sessions."""

    since: int
    """When the guard started, as `start_time` tells it: nothing older is of its jobs.

    This bounds what a mistaken match can do: neither the host nor anything around it, nor a
    service through which a mark came to a stranger (`at`, a terminal), is ever taken for a job.
    """

    all_jobs: bool = False
    """Whether all of the host's jobs are lost, since it is dead, and not only those named."""

    def owns(self, pid: int) -> bool | None:
        """Return whether a process is one of the jobs', and has not ended; None: ask again.

        A process has no marks for the instant in which it becomes another program.
        """
        stat = stat_of(pid)
        if not stat or stat[0] in b"ZX" or pid == os.getpid() or int(stat[19]) < self.since:
            return False
        if int(stat[3]) in self.leaders:
            return True
        marks = marks_of(pid)
        return None if marks is None else self._is_marked(marks)

    def is_zombie_of_ours(self, pid: int) -> bool:
        """Return whether it was one of the jobs' and ended as a child of this process."""
        stat = stat_of(pid)
        return stat[:2] == [b"Z", b"%d" % os.getpid()] and int(stat[19]) >= self.since

    def _is_marked(self, marks: Mapping[bytes, bytes]) -> bool:
        of = marks.get(os.fsencode(OUTER_JOBS), b"").split(b":")
        if marks.get(b"HODEI_HOST") == os.fsencode(self.host_id):
            if self.all_jobs:
                return True
            of.append(marks.get(b"HODEI_JOB_ID", b""))
        return any(job_id and os.fsdecode(job_id) in self.job_ids for job_id in of)


def end_jobs(lost: Lost, seconds: float) -> bool:
    """Kill all processes of some jobs until none is left; whether none is.

    Takes at most about `seconds`; blocks, so it belongs in a thread.
    """
    deadline = time.monotonic() + seconds
    killed: set[int] = set()
    unsure_looks = _UNSURE_LOOKS
    try:
        while unsure_looks:
            owned = {pid: lost.owns(pid) for pid in _pids()}
            found = [pid for pid, ours in owned.items() if ours]
            if not found and None not in owned.values():
                break
            if not found:
                unsure_looks -= 1
            for pid in found:
                _kill(lost, pid)
            killed.update(found)
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
    finally:
        _reap(lost, killed)
    return True


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot; 0 if it is gone."""
    stat = stat_of(pid)
    return int(stat[19]) if stat else 0


def _kill(lost: Lost, pid: int) -> None:
    with suppress(OSError):
        fd = os.pidfd_open(pid)
        try:
            # Looked at again behind the pidfd: the number may have passed to a stranger.
            if lost.owns(pid):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)


def _reap(lost: Lost, killed: Collection[int]) -> None:
    """Leave no zombies where this process is the one that adopts orphans: in a container."""
    for pid in killed:
        if lost.is_zombie_of_ours(pid):
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
