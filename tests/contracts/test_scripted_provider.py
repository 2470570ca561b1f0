"""The scripted provider passes the suites of a provider that runs no programs."""

from __future__ import annotations

from hodei_core.executions import Execution
from hodei_core.ports import WorkerProvider
from hodei_core.specs import JobSpec
from hodei_core.testing import (
    Act,
    ProviderContract,
    ProviderSuite,
    ScriptedProvider,
    SessionContract,
)


def act(execution: Execution) -> Act:
    """Return what the command of the job says."""
    command = execution.spec.command
    assert isinstance(command, tuple)
    verb, *arguments = command
    if verb == "exit":
        return Act(exit_code=int(arguments[0]))
    if verb == "print":
        return Act(prints=execution.spec.stdin or b"", warns=arguments[0].encode())
    if verb == "flood":
        return Act(prints=b"\0" * int(arguments[0]))
    return Act(prints="ready", ends=False)


class Scripted(ProviderSuite):
    runs_programs = False

    async def make_provider(self) -> WorkerProvider:
        return ScriptedProvider(act, slots=3)

    def exits(self, code: int) -> JobSpec:
        return JobSpec(["exit", str(code)])

    def prints(self, stdout: bytes, stderr: bytes = b"") -> JobSpec:
        return JobSpec(["print", stderr.decode()], stdin=stdout)

    def floods(self, size: int) -> JobSpec:
        return JobSpec(["flood", str(size)])

    def waits(self) -> JobSpec:
        return JobSpec(["wait"])


class TestProvider(Scripted, ProviderContract):
    pass


class TestSession(Scripted, SessionContract):
    pass
