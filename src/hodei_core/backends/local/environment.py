"""The environment that jobs get unless they say otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping

_NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "TMPDIR",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "LD_LIBRARY_PATH",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "CUDA_VISIBLE_DEVICES",
    }
)
_PREFIXES = ("LC_", "XDG_")

OUTER_JOBS = "HODEI_OUTER_JOBS"
"""Ids of the jobs in which this host itself runs, with colons between; outermost first.

A guard ends what carries the id of its job here as well: the jobs of a host inside a job.
"""


def base_environment(
    choice: str | Mapping[str, str], host_environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables that every job gets.

    `choice` is "default" (the allow-list and a TERM that asks for no colours), "inherit" (all
    that the host has) or a mapping that stands for itself.
    """
    host = os.environ if host_environment is None else host_environment
    if isinstance(choice, Mapping):
        base = dict(choice)
    elif choice == "inherit":
        # A name may be empty in an environment that no shell has made; nothing can set it.
        base = {name: value for name, value in host.items() if name}
    else:
        base = {name: host[name] for name in host if name in _NAMES or name.startswith(_PREFIXES)}
        base["TERM"] = "dumb"
    return {name: value for name, value in base.items() if not name.startswith("HODEI_")} | (
        outer_jobs(host)
    )


def guard_environment() -> dict[str, str]:
    """Return what the guard itself needs: how to find shared libraries, and whose it is."""
    wanted = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return wanted | outer_jobs(os.environ)


def outer_jobs(host: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that names the jobs around a host; nothing if it runs in none."""
    job_id = host.get("HODEI_JOB_ID")
    if not job_id:
        return {}
    outer = host.get(OUTER_JOBS)
    return {OUTER_JOBS: f"{outer}:{job_id}" if outer else job_id}
