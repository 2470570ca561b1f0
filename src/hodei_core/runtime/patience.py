"""Asks a store again that could not answer: what happened must be recorded in the end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from hodei_core.errors import HodeiError, StoreInvalidError
from hodei_core.ids import JobId
from hodei_core.jobs import Job
from hodei_core.ports import JobRepository

logger: logging.Logger = logging.getLogger(__name__)

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between asks; the last one is repeated

T = TypeVar("T")


async def insist(ask: Callable[[], Awaitable[T]], what: str) -> T:
    """Return what the store answers, however often it refuses; `what` names the ask in the log.

    Raises:
        StoreInvalidError: a single job cannot be read.
    """
    tries = 0
    while True:
        try:
            return await ask()
        except HodeiError as error:
            if isinstance(error, StoreInvalidError) and error.job_id:
                raise  # it is the same however often it is asked
            pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
            tries += 1
            logger.warning(
                "the store could not %s, asked again in %s s: %s",
                what,
                pause,
                error,
                extra={"action": what},
            )
            await anyio.sleep(pause)


async def stored(jobs: JobRepository, job_id: JobId) -> Job | None:
    """Return a job as it is stored, however often its store refuses; None if it cannot be read."""
    try:
        return await insist(lambda: jobs.get(job_id), "show a job")
    except StoreInvalidError:
        return None
