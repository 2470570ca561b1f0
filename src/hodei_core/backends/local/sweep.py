"""What the host does when a guard has died: it ends what that guard had started.

Without its guard a job runs on, adopted by the system's first process. Only what belongs to the
jobs that ran is ended: another guard of the same host has jobs of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from hodei_core.backends.local.environment import OUTER_JOBS

_LOOK_SECONDS = 0.005
_PROC = Path("/proc")


def end_jobs(
    host_id: str, job_ids: Collection[str], leaders: Collection[int], seconds: float
) -> bool:
    """Kill all processes of some jobs of a host until none is left; whether none is.

    Takes at most about `seconds`; blocks, so it belongs in a thread.
    """
    sweep = _Sweep(host_id, job_ids, leaders)
    deadline = time.monotonic() + seconds
    try:
        while sweep.kill_found():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
    finally:
        sweep.reap()
    return True


class _Sweep:
    """Knows processes by the marks that they started with, and by the sessions of those.

    Nobody can enter a session from outside: who is in one with a marked process is of its job.
    """

    def __init__(self, host_id: str, job_ids: Collection[str], leaders: Collection[int]) -> None:
        self._host_id = host_id
        self._job_ids = job_ids
        self._sessions = set(leaders)

    def kill_found(self) -> bool:
        """Kill what can be found now; whether there was something."""
        found = [pid for pid in _pids() if self._owns(pid)]
        for pid in found:
            self._kill(pid)
        return bool(found)

    def reap(self) -> None:
        """Leave no zombies where this process is the one that adopts orphans: in a container."""
        for pid in _pids():
            stat = _stat(pid)
            if stat[:2] == ["Z", str(os.getpid())] and int(stat[3]) in self._sessions:
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    def _owns(self, pid: int) -> bool:
        stat = _stat(pid)
        if not stat or stat[0] in "ZX":
            return False
        session = int(stat[3])
        if session not in self._sessions and self._is_marked(pid):
            self._sessions.add(session)
        return session in self._sessions

    def _is_marked(self, pid: int) -> bool:
        marks = _marks(pid)
        if marks.get("HODEI_HOST") == self._host_id and marks.get("HODEI_JOB_ID") in self._job_ids:
            return True
        return any(outer in self._job_ids for outer in marks.get(OUTER_JOBS, "").split(":"))

    def _kill(self, pid: int) -> None:
        with suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                # Looked at again behind the pidfd: the number may have passed to a stranger.
                if self._owns(pid):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Return state, parent, group, session and what follows of a process; nothing if gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _marks(pid: int) -> dict[str, str]:
    """Return the HODEI_ variables that a process started with."""
    try:
        data = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return {}
    pairs = (part.partition(b"=") for part in data.split(b"\0") if part.startswith(b"HODEI_"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
