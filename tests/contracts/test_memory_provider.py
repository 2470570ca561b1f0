"""The memory provider passes the suites of a provider that runs no programs."""

from __future__ import annotations

import anyio

from hodei_core.backends.memory import MemoryProvider
from hodei_core.executions import Execution, Output
from hodei_core.logs import LogSource
from hodei_core.ports import WorkerProvider
from hodei_core.specs import JobSpec
from hodei_core.testing import ProviderContract, ProviderSuite, SessionContract

CHUNK = 64 * 1024


async def play(execution: Execution, output: Output) -> int:
    """Do what the command of the job says."""
    command = execution.spec.command
    assert isinstance(command, tuple)
    verb, *arguments = command
    if verb == "exit":
        return int(arguments[0])
    if verb == "print":
        await output.write(execution.spec.stdin or b"")
        await output.write(arguments[0], LogSource.STDERR)
    elif verb == "flood":
        size = int(arguments[0])
        for start in range(0, size, CHUNK):
            await output.write(b"\0" * min(CHUNK, size - start))
    else:
        await output.write(b"ready\n")
        await anyio.sleep_forever()
    return 0


class Memory(ProviderSuite):
    runs_programs = False
    ends_attempts = False  # a handler ends when the runtime cancels it, and not otherwise

    async def make_provider(self) -> WorkerProvider:
        return MemoryProvider(play, slots=3)

    def exits(self, code: int) -> JobSpec:
        return JobSpec(["exit", str(code)])

    def prints(self, stdout: bytes, stderr: bytes = b"") -> JobSpec:
        return JobSpec(["print", stderr.decode()], stdin=stdout)

    def floods(self, size: int) -> JobSpec:
        return JobSpec(["flood", str(size)])

    def waits(self) -> JobSpec:
        return JobSpec(["wait"])


class TestProvider(Memory, ProviderContract):
    pass


class TestSession(Memory, SessionContract):
    pass
