"""The suites of `WorkerProvider` and `WorkerSession`.

A provider says what it can do by class attributes of its suite, its capabilities, and how to
write down a few jobs for it. A test that needs what it cannot do is skipped.
"""

# ruff: noqa: D102, S101 - the name of a test states the behaviour; a suite asserts

from __future__ import annotations

import unittest
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import anyio
import attrs

from hodei_core.clock import SystemClock
from hodei_core.executions import Execution, Exit
from hodei_core.ids import HostId, JobId, WorkerId
from hodei_core.policies import WorkerPolicy
from hodei_core.ports import (
    NotStartedError,
    ProviderHost,
    StartFailedError,
    WorkerLostError,
    WorkerProvider,
    WorkerSession,
)
from hodei_core.specs import JobSpec
from hodei_core.testing.contracts.output import RecordedOutput
from hodei_core.workers import Offer


class Worker:
    """A worker under test."""

    def __init__(self, provider: WorkerProvider, session: WorkerSession) -> None:
        self.provider = provider
        self.session = session
        self.gone: anyio.Event = anyio.Event()
        """Set when the session's `run` has returned."""

        self._jobs = 0

    async def execute(self, spec: JobSpec, output: RecordedOutput | None = None) -> Exit:
        """Run an attempt and check what holds for every one."""
        output = output or RecordedOutput()
        self._jobs += 1
        execution = Execution(job_id=JobId(f"job-{self._jobs}"), attempt=1, spec=spec)
        try:
            exit_ = await self.session.execute(execution, output)
            assert isinstance(exit_, Exit)
            assert output.began, "it exited without having started"
            assert exit_.code is None or 0 <= exit_.code <= 255
            output.assert_finished()
            return exit_
        finally:
            output.returned = True


class ProviderSuite:
    """What the suites of a provider share: how to make one, and jobs written for it.

    The jobs are shell texts; a provider that runs no programs overrides them.
    """

    runs_programs: ClassVar[bool] = True
    """Whether its workers run programs, with input, signals and a way not to be found."""

    ends_attempts: ClassVar[bool] = True
    """Whether `terminate` and `close` end the attempts that are under way."""

    limit_seconds: ClassVar[float] = 60
    """How long one test may take before it fails."""

    async def make_provider(self) -> WorkerProvider:
        """Return a new provider that is not open. Override this."""
        raise NotImplementedError

    def exits(self, code: int) -> JobSpec:
        """Return a job that exits with a code."""
        return JobSpec(f"exit {code}")

    def prints(self, stdout: bytes, stderr: bytes = b"") -> JobSpec:
        """Return a job that prints exactly this."""
        return JobSpec(f"printf '{_octal(stdout)}'; printf '{_octal(stderr)}' >&2")

    def floods(self, size: int) -> JobSpec:
        """Return a job that prints so many bytes, as fast as it can."""
        return JobSpec(f"head -c {size} /dev/zero")

    def waits(self) -> JobSpec:
        """Return a job that prints "ready" and a newline, and then never ends by itself."""
        return JobSpec("echo ready; exec sleep 600")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[WorkerProvider]:
        """Make a provider, open it, and close it afterwards."""
        with anyio.fail_after(self.limit_seconds):
            provider = await self.make_provider()
            await provider.open(ProviderHost(host_id=HostId("host"), clock=SystemClock()))
            try:
                yield provider
            finally:
                with anyio.CancelScope(shield=True):
                    await provider.close()

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """Make one worker and serve it; end it afterwards."""
        async with self.opened() as provider, anyio.create_task_group() as tasks:
            worker = Worker(provider, await provider.provision(WorkerId("worker")))

            async def serve() -> None:
                await worker.session.run()
                worker.gone.set()

            tasks.start_soon(serve)
            try:
                yield worker
            finally:
                with anyio.CancelScope(shield=True):
                    await worker.session.terminate()
                    await worker.gone.wait()

    def need(self, capability: bool, what: str) -> None:
        """Skip the test unless the provider has a capability."""
        if not capability:
            msg = f"this provider {what}"
            raise unittest.SkipTest(msg)


class ProviderContract(ProviderSuite):
    """Workers are made, and end when they are told to."""

    async def test_the_offer_is_constant_and_hashable(self) -> None:
        async with self.opened() as provider:
            offer = provider.offer
            assert isinstance(offer, Offer)
            assert offer.slots >= 1
            assert isinstance(provider.policy, WorkerPolicy)
            await provider.provision(WorkerId("worker"))
            assert provider.offer == offer
            assert hash(provider.offer) == hash(attrs.evolve(offer))

    async def test_closing_is_idempotent(self) -> None:
        async with self.opened() as provider:
            await provider.close()
            await provider.close()

    async def test_terminating_is_idempotent_and_ends_the_serving(self) -> None:
        async with self.worker() as worker:
            await worker.session.terminate()
            await worker.gone.wait()
            await worker.session.terminate()

    async def test_a_worker_answers(self) -> None:
        async with self.worker() as worker:
            for _ in range(3):
                await worker.session.heartbeat()

    async def test_discarding_a_worker_that_never_was_is_no_error(self) -> None:
        async with self.opened() as provider:
            await provider.discard(WorkerId("nobody"))

    async def test_discarding_ends_a_worker_whose_line_was_never_served(self) -> None:
        async with self.opened() as provider:
            session = await provider.provision(WorkerId("worker"))
            await provider.discard(WorkerId("worker"))
            await provider.discard(WorkerId("worker"))
            await session.run()

    async def test_cancelling_the_making_leaves_nothing_once_discarded(self) -> None:
        async with self.opened() as provider:
            for number in range(3):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await provider.provision(WorkerId(f"worker-{number}"))
                await provider.discard(WorkerId(f"worker-{number}"))

    async def test_closing_the_provider_ends_its_workers(self) -> None:
        async with self.worker() as worker:
            await worker.provider.close()
            await worker.gone.wait()

    async def test_a_worker_that_is_gone_runs_nothing(self) -> None:
        async with self.worker() as worker:
            await worker.session.terminate()
            output = RecordedOutput()
            try:
                await worker.execute(self.exits(0), output)
            except (WorkerLostError, NotStartedError):
                assert not output.began
            else:
                msg = "an attempt ran on a worker that is gone"
                raise AssertionError(msg)

    async def test_terminating_ends_what_runs(self) -> None:
        self.need(self.ends_attempts, "leaves it to the runtime to end attempts")
        async with self.worker() as worker, anyio.create_task_group() as tasks:
            output = RecordedOutput(grace=0.1)
            ended = anyio.Event()

            async def run() -> None:
                with suppress(WorkerLostError):
                    await worker.execute(self.waits(), output)
                ended.set()

            tasks.start_soon(run)
            await output.until_printed(b"ready\n")
            await worker.session.terminate()
            await ended.wait()


class SessionContract(ProviderSuite):
    """Attempts are run to their end, and their output is given on."""

    async def test_the_exit_code_is_that_of_the_job(self) -> None:
        async with self.worker() as worker:
            for code in (0, 1, 3, 124, 255):
                assert (await worker.execute(self.exits(code))).code == code

    async def test_what_is_printed_is_fed_byte_by_byte_and_finished(self) -> None:
        stdout, stderr = b"one\n\xff\xfe\r\ttwo\n\nend", b"oops\n"
        async with self.worker() as worker:
            output = RecordedOutput()
            assert (await worker.execute(self.prints(stdout, stderr), output)).code == 0
            assert (output.stdout, output.stderr) == (stdout, stderr)

    async def test_a_job_that_prints_nothing_exits_all_the_same(self) -> None:
        async with self.worker() as worker:
            output = RecordedOutput()
            await worker.execute(self.exits(0), output)
            assert (output.stdout, output.stderr) == (b"", b"")

    async def test_a_flood_is_fed_whole(self) -> None:
        async with self.worker() as worker:
            output = RecordedOutput()
            await worker.execute(self.floods(1_000_000), output)
            assert len(output.stdout) == 1_000_000

    async def test_nothing_is_fed_while_the_buffer_is_full(self) -> None:
        async with self.worker() as worker, anyio.create_task_group() as tasks:
            output = RecordedOutput(full_at=1)
            tasks.start_soon(worker.execute, self.floods(3_000_000), output)
            await output.until_full()
            await anyio.wait_all_tasks_blocked()
            assert output.overrun == 0
            assert len(output.stdout) < 3_000_000
            output.empty()
            await output.until_printed(b"\0" * 3_000_000)

    async def test_as_many_attempts_run_at_once_as_there_are_slots(self) -> None:
        async with self.worker() as worker:
            outputs = [RecordedOutput(grace=0.1) for _ in range(worker.provider.offer.slots)]
            async with anyio.create_task_group() as tasks:
                for output in outputs:
                    tasks.start_soon(worker.execute, self.waits(), output)
                for output in outputs:
                    await output.until_printed(b"ready\n")
                tasks.cancel_scope.cancel()

    # Ending an attempt

    async def test_a_cancelled_attempt_ends_and_its_exit_is_returned(self) -> None:
        async with self.worker() as worker:
            exit_ = await self.run_and_cancel(worker)
            if self.runs_programs:
                assert exit_.code in {128 + 15, 128 + 9}

    async def test_the_cancellation_is_served_when_the_call_has_returned(self) -> None:
        async with self.worker() as worker:
            await self.run_and_cancel(worker)
            await anyio.sleep(0)

    async def test_a_worker_goes_on_after_an_attempt_was_cancelled(self) -> None:
        async with self.worker() as worker:
            for _ in range(3):
                await self.run_and_cancel(worker)
                assert (await worker.execute(self.exits(3))).code == 3

    async def test_an_attempt_that_is_cancelled_at_once_leaves_nothing(self) -> None:
        async with self.worker() as worker:
            output = RecordedOutput(grace=0.1)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await worker.execute(self.waits(), output)
                assert output.began, "an exit of what never started"
            assert (await worker.execute(self.exits(0))).code == 0

    async def run_and_cancel(self, worker: Worker) -> Exit:
        """Cancel a waiting job once it runs; return its exit."""
        output = RecordedOutput(grace=0.1)
        exits: list[Exit] = []
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await output.until_printed(b"ready\n")
                    scope.cancel()

                tasks.start_soon(cancel)
                exits.append(await worker.execute(self.waits(), output))
        assert exits, "the cancellation went through though the attempt had started"
        return exits[0]


class ProgramContract(ProviderSuite):
    """Programs have an input, may not be there, and may be ended by a signal."""

    async def test_a_signal_counts_as_128_and_its_number(self) -> None:
        self.need(self.runs_programs, "runs no programs")
        async with self.worker() as worker:
            for signal in (11, 6, 9, 15):
                exit_ = await worker.execute(JobSpec(f"kill -{signal} $$"))
                assert exit_.code == 128 + signal

    async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(self) -> None:
        self.need(self.runs_programs, "runs no programs")
        stubborn = JobSpec("trap '' TERM; echo ready; while :; do sleep 1; done")
        async with self.worker() as worker, anyio.create_task_group() as tasks:
            output = RecordedOutput(grace=0.1)
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await output.until_printed(b"ready\n")
                    scope.cancel()

                tasks.start_soon(cancel)
                assert (await worker.execute(stubborn, output)).code == 128 + 9
            assert output.returned

    async def test_the_input_is_what_the_job_was_given_or_empty(self) -> None:
        self.need(self.runs_programs, "runs no programs")
        async with self.worker() as worker:
            for stdin in (None, b"", b"one\n\xff\0two", b"x" * 1_000_000):
                output = RecordedOutput()
                await worker.execute(JobSpec("cat", stdin=stdin), output)
                assert output.stdout == (stdin or b"")

    async def test_a_program_that_is_not_there_cannot_be_started(self) -> None:
        self.need(self.runs_programs, "runs no programs")
        async with self.worker() as worker:
            await assert_not_started(worker, JobSpec(["no-such-program-anywhere"]))
            await assert_not_started(worker, JobSpec("true", cwd="/no/such/folder"))
            assert (await worker.execute(self.exits(0))).code == 0

    async def test_arguments_never_meet_a_shell(self) -> None:
        self.need(self.runs_programs, "runs no programs")
        async with self.worker() as worker:
            output = RecordedOutput()
            await worker.execute(JobSpec(["printf", "%s", "$HOME; `id` 'x' *"]), output)
            assert output.stdout == b"$HOME; `id` 'x' *"

    async def test_the_variables_of_the_job_are_set(self) -> None:
        self.need(self.runs_programs, "runs no programs")
        async with self.worker() as worker:
            output = RecordedOutput()
            await worker.execute(
                JobSpec('printf %s "$GREETING"', env={"GREETING": "hé $x"}), output
            )
            assert output.stdout == "hé $x".encode()


async def assert_not_started(worker: Worker, spec: JobSpec) -> None:
    """Check that a job cannot be started, and that the error says why."""
    output = RecordedOutput()
    try:
        await worker.execute(spec, output)
    except StartFailedError as error:
        assert str(error)  # noqa: PT017 - no test runner is imported here
        assert not output.began
    else:
        msg = f"{spec.command!r} was started"
        raise AssertionError(msg)


def _octal(data: bytes) -> str:
    return "".join(f"\\{byte:03o}" for byte in data)
