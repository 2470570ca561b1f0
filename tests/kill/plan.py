"""What a run submits: drawn from its seed, so that each host of the run knows all of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from hodei_core.retry import Backoff, RetryPolicy
from hodei_core.specs import JobSpec
from hodei_core.states import JobState, Reason

RUN_MARK = "KILL_RUN"
"""The variable by which all that a run has started can be found."""

CANCEL = {"act": "cancel"}
"""The label of the jobs that a host cancels."""

RELEASE = "release"
"""The file beside the locks without which some jobs do not end."""

BATCHES = 4
"""Into about so many batches half of the jobs go."""

LINES = 400  # of a job that prints many

# A line is appended by one write, so the ledger is in the order of the facts.
NOTES = """
note() { echo "$1 $HODEI_JOB_ID $HODEI_ATTEMPT $2" >>"$LEDGER"; }
end() { note end "$1"; exit "$1"; }
note start $$
"""
# Held until the last process of an attempt's tree has ended: it tells what lives at the same time.
_LOCK = """
exec 9>>"$LOCKS/$HODEI_JOB_ID"
flock -n 9 || note overlap $$
"""


@attrs.frozen
class Kind:
    """A kind of job: what it does, and how it may end if nobody kills anything."""

    body: str
    state: JobState
    code: int | None = None
    """The exit code of its last attempt; None: it is not looked at."""

    attempts: int | None = None
    """How many counted attempts it makes; None: it is not looked at."""

    stdout: bytes = b""
    """What an attempt prints if it comes to its end."""

    fields: Callable[[random.Random], dict[str, Any]] = lambda _: {}


def _retry(max_attempts: int, **fields: Any) -> dict[str, Any]:
    backoff = Backoff(first=0.05, max=0.2)
    return {"retry": RetryPolicy(max_attempts=max_attempts, backoff=backoff, **fields)}


_NUMBERED = b"".join(b"%d\n" % number for number in range(1, LINES + 1))
_WIDE = b"x" * 100_000 + b"\n"

KINDS: dict[str, Kind] = {
    "brief": Kind("echo out; echo err >&2; end 0", JobState.SUCCEEDED, 0, 1, b"out\n"),
    "once": Kind("echo out; sleep 0.3; end 0", JobState.SUCCEEDED, 0, 1, b"out\n"),
    "slow": Kind(
        "sleep 0.7; echo out; end 0", JobState.SUCCEEDED, 0, 1, b"out\n", lambda _: _retry(3)
    ),
    "failing": Kind("echo out; end 3", JobState.FAILED, 3, 1, b"out\n"),
    "stubborn": Kind("echo out; end 4", JobState.FAILED, 4, 3, b"out\n", lambda _: _retry(3)),
    "held": Kind(
        f'while [ ! -e "$LOCKS/{RELEASE}" ]; do sleep 0.05; done; sleep 0.3; end 0',
        JobState.SUCCEEDED,
        0,
        fields=lambda _: _retry(3),
    ),
    "flaky": Kind(
        '[ "$HODEI_ATTEMPT" -gt 1 ] || end 9; sleep 0.1; end 0',
        JobState.SUCCEEDED,
        0,
        fields=lambda _: _retry(3),
    ),
    "chatty": Kind(
        f"seq 1 {LINES}; end 0", JobState.SUCCEEDED, 0, 1, _NUMBERED, lambda _: _retry(3)
    ),
    "wide": Kind(
        r"head -c 100000 /dev/zero | tr '\0' x; echo; end 0",
        JobState.SUCCEEDED,
        0,
        1,
        _WIDE,
        lambda _: _retry(3),
    ),
    "tree": Kind(
        "setsid sleep 600 >/dev/null 2>&1 & sleep 600 >/dev/null 2>&1 & sleep 0.2; end 0",
        JobState.SUCCEEDED,
        0,
        1,
        fields=lambda _: _retry(3),
    ),
    "endless": Kind(
        "sleep 600; end 0", JobState.TIMED_OUT, fields=lambda _: {"timeout": 0.4, "grace": 0.5}
    ),
    "delayed": Kind(
        "echo out; end 0",
        JobState.SUCCEEDED,
        0,
        1,
        b"out\n",
        lambda draw: {"delay": draw.uniform(0.1, 1.0)} | _retry(3),
    ),
    "requeued": Kind(
        "sleep 0.4; end 0",
        JobState.SUCCEEDED,
        0,
        1,
        fields=lambda _: _retry(1, requeue_interrupted=True),
    ),
    "cancelled": Kind(
        "sleep 600; end 0", JobState.CANCELLED, fields=lambda _: {"labels": CANCEL, "grace": 0.5}
    ),
    "forgotten": Kind(
        "end 0", JobState.CANCELLED, fields=lambda _: {"labels": CANCEL, "delay": 3600}
    ),
}

LOST = (Reason.WORKER_LOST, Reason.POISON)
"""How attempts and jobs end that their host took with it."""


@attrs.frozen
class Planned:
    """A job of a run."""

    name: str
    kind: Kind
    spec: JobSpec
    batch: int
    """Jobs of the same batch are submitted together, and have no key; 0: alone."""


def plan(seed: int, folder: Path, *, jobs: int = 30) -> list[Planned]:
    """Return what a run submits, in order."""
    draw = random.Random(seed)
    drawn = [*KINDS, *(draw.choice(list(KINDS)) for _ in range(jobs - len(KINDS)))]
    draw.shuffle(drawn)
    batches = sorted(draw.choices(range(2 * BATCHES), k=jobs))
    environment = {
        "LEDGER": str(folder / "ledger"),
        "LOCKS": str(folder / "locks"),
        RUN_MARK: folder.name,
    }
    planned = []
    for number, (name, drawn_batch) in enumerate(zip(drawn, batches, strict=True)):
        batch = drawn_batch if drawn_batch % 2 else 0
        kind = KINDS[name]
        fields = kind.fields(draw)
        if not batch and draw.random() < 0.6:
            fields["key"] = f"key-{number}"
        spec = JobSpec(
            NOTES + _LOCK + kind.body,
            name=f"{number}-{name}",
            env=environment,
            priority=draw.choice((0, 0, 0, 1, -1)),
            **fields,
        )
        planned.append(Planned(f"{number}-{name}", kind, spec, batch))
    return planned
