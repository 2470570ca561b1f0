"""What the host does when a guard has died: it ends what that guard had started.

Without its guard a job runs on, adopted by the system's first process. Only what belongs to the
jobs that ran is ended: another guard of the same host has jobs of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from hodei_core.backends.local.environment import OUTER_JOBS

_LOOK_SECONDS = 0.005
_UNSURE_LOOKS = 50
"""How often all is looked at again for what is in the midst of an exec, and has no marks then."""

_ENV_END = 48  # among the fields that `_stat` returns: where the variables lie, 0 in an exec
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of the kernel, in the flags of a process
_PROC = Path("/proc")


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

    def owns(self, pid: int) -> bool | None:
        """Return whether a process is one of the jobs', and has not ended; None: ask again.

        A process has no marks for the instant in which it becomes another program.
        """
        stat = _stat(pid)
        if not stat or stat[0] in "ZX" or pid == os.getpid() or int(stat[19]) < self.since:
            return False
        if int(stat[3]) in self.leaders:
            return True
        marks = _marks(pid)
        if marks is None:
            return None if _in_exec(stat, _stat(pid)) else False
        return self._is_marked(marks)

    def is_zombie_of_ours(self, pid: int) -> bool:
        """Return whether it was one of the jobs' and ended as a child of this process."""
        stat = _stat(pid)
        return stat[:2] == ["Z", str(os.getpid())] and int(stat[19]) >= self.since

    def _is_marked(self, marks: Mapping[str, str]) -> bool:
        of = marks.get(OUTER_JOBS, "").split(":")
        if marks.get("HODEI_HOST") == self.host_id:
            of.append(marks.get("HODEI_JOB_ID", ""))
        return any(job_id and job_id in self.job_ids for job_id in of)


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
    stat = _stat(pid)
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
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Return state, parent, group, session and what follows of a process; nothing if gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _marks(pid: int) -> dict[str, str] | None:
    """Return the HODEI_ variables that a process started with; None if it shows no variables."""
    try:
        data = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return {}
    if not data:
        return None
    pairs = (part.partition(b"=") for part in data.split(b"\0") if part.startswith(b"HODEI_"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _in_exec(before: list[str], after: list[str]) -> bool:
    """Return whether a process that showed no variables was in an exec between two looks."""
    if not after or after[0] in "ZX" or int(after[6]) & _KERNEL_THREAD:
        return False
    return int(after[_ENV_END]) == 0 or after[_ENV_END] != before[_ENV_END]
