"""Arguments of the front door that are not what their annotation promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import pytest

from hodei_core import Hodei
from hodei_core.retention import Retention
from tests.runtime.workshop import LIMIT, Workshop

TOO_LONG = timedelta(days=36_526)


@pytest.mark.parametrize("value", [TOO_LONG, timedelta.max, 1e12])
def test_a_span_that_no_instant_could_hold_is_refused(value: float | timedelta) -> None:
    with pytest.raises(ValueError, match="stuck_after must be at most 36525 days"):
        Hodei(stuck_after=value)
    with pytest.raises(ValueError, match="max_age must be at most 36525 days"):
        Retention(max_age=value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda h: h.get_job(uuid4()), "job_id must be text, not UUID"),
        (lambda h: h.list_jobs(after=uuid4()), "after must be text, not UUID"),
        (lambda h: h.list_jobs(name=5), "name must be text, not int"),
        (lambda h: h.list_jobs(labels="a"), "labels must be a mapping of names to values"),
        (lambda h: h.list_jobs(labels={"a": 1}), "the value of label 'a' must be text, not int"),
        (lambda h: h.list_jobs(states="PENDING"), "states must be JobState members, not 'PENDING'"),
        (lambda h: h.cancel_jobs(reason=5), "reason must be text, not int"),
        (lambda h: h.handle("x").cancel(5), "reason must be text, not int"),
        (lambda h: h.handle("x").wait("5"), "timeout must be seconds"),
    ],
    ids=["job_id", "after", "name", "labels", "label", "states", "reasons", "reason", "timeout"],
)
async def test_an_argument_of_another_kind_is_named(
    workshop: Workshop, call: Callable[[Any], Awaitable[object]], words: str
) -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[workshop.provider()]) as hodei:
            with pytest.raises((TypeError, ValueError), match=words):
                await call(hodei)


def test_a_handle_of_what_is_no_id_is_refused() -> None:
    with pytest.raises(TypeError, match="job_id must be text, not UUID"):
        Hodei().handle(uuid4())  # type: ignore[arg-type]
