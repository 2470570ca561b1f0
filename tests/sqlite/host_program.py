"""A host in a process of its own, for tests that kill or stop it.

Run as `python host_program.py FILE [name=value ...] [COMMAND ...]`: it submits the commands and
dispatches until it is ended. It prints "open HOST GUARD" when it is open, "again HOST GUARD" when
it goes on under another id, and "final NUMBER STATE" for each of its jobs. `lease` sets how many
seconds a lease has, `fork=1` has it fork a child that lives on, `attempts` is `max_attempts`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial

import anyio

from hodei_core import Hodei, JobHandle, RetryPolicy
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.local import provider as local_provider
from hodei_core.retry import Backoff
from hodei_core.runtime import membership


def shorten_leases(seconds: float) -> None:
    """Have every host of this process live by shorter leases: their parts keep their ratios."""
    membership.LEASE_SECONDS = seconds
    membership._MARGIN_SECONDS = local_provider.MARGIN_SECONDS = seconds / 5
    membership._LOOK_SECONDS = seconds / 10


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(path: str, options: dict[str, str], commands: list[str]) -> None:
    provider = LocalProvider(slots=int(options.get("slots", 2)))
    retry = RetryPolicy(max_attempts=int(options.get("attempts", 1)), backoff=Backoff(first=0))
    async with Hodei(path, providers=[provider]) as hodei:
        if options.get("fork"):
            fork()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell_hosts, provider)
            for number, command in enumerate(commands):
                job = await hodei.submit(command, retry=retry, grace=0)
                tasks.start_soon(tell_final, number, job)
            tell("submitted", len(commands))
            await anyio.sleep_forever()


async def tell_hosts(provider: LocalProvider) -> None:
    seen: dict[int, None] = {}
    while True:
        for session in list(provider._sessions.values()):
            if session.guard_pid not in seen and not session.ended:
                tell("again" if seen else "open", session._host_id, session.guard_pid)
                seen[session.guard_pid] = None
        await anyio.sleep(0.02)


async def tell_final(number: int, job: JobHandle) -> None:
    result = await job.wait()
    tell("final", number, result.state.name)


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    tell("fork", pid)


if __name__ == "__main__":
    path, *rest = sys.argv[1:]
    options = dict(word.split("=", 1) for word in rest if "=" in word.split(" ")[0])
    commands = [word for word in rest if "=" not in word.split(" ")[0]]
    logging.basicConfig(level=logging.WARNING)
    if "lease" in options:
        shorten_leases(float(options["lease"]))
    anyio.run(partial(main, path, options, commands))
