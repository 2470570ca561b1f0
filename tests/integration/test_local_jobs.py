"""Real commands through the front door."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from hodei_core import (
    Backoff,
    Hodei,
    InvalidJobError,
    JobFailedError,
    JobFinished,
    JobState,
    LogSource,
    OutputTooLargeError,
    Reason,
    Resources,
    RetryPolicy,
    WorkerLost,
)
from hodei_core.backends.local import LocalProvider

LIMIT = 30.0


def guard_pid() -> int:
    """Return the pid of the one guard that this process has."""
    found = [pid for pid in _children(os.getpid()) if b"guard.py" in _read(pid, "cmdline")]
    (pid,) = found
    return pid


def _children(pid: int) -> list[int]:
    text = "".join(
        Path(f"/proc/{pid}/task/{task}/children").read_text()
        for task in os.listdir(f"/proc/{pid}/task")
    )
    return [int(child) for child in text.split()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def processes_with(mark: str) -> list[int]:
    """Return the processes that were started with a text in their environment."""
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and mark.encode() in _read(int(name), "environ")
    ]


async def test_the_two_line_job_of_the_field_report() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit("echo 'Final test job'; sleep 0.3; echo 'Done!'", name="first")
            entries = [entry async for entry in job.logs()]
            result = await job.wait()
    assert [entry.text for entry in entries] == ["Final test job", "Done!"]
    assert [entry.seq for entry in entries] == [1, 2]
    assert entries[1].at - entries[0].at >= timedelta(seconds=0.25)
    assert result.ok
    assert result.stdout == "Final test job\nDone!\n"
    assert result.attempts[0].usage is not None
    assert result.attempts[0].usage.max_rss_bytes > 1024 * 1024


async def test_both_streams_are_kept_apart_and_exact() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            result = await hodei.run(r"printf 'a\nb\000\377'; printf 'c\n' >&2; exit 3")
            assert (result.stdout, result.stderr) == ("a\nb\0\ufffd", "c\n")
            assert (result.state, result.reason, result.exit_code) == (
                JobState.FAILED,
                Reason.EXIT_CODE,
                3,
            )
            job = hodei.handle(result.job_id)
            assert await job.output() == b"a\nb\x00\xff"
            assert await job.output(source=LogSource.STDERR) == b"c\n"
            assert sorted(await job.output(source=None)) == sorted(b"a\nb\x00\xffc\n")
            errors = [entry.text async for entry in job.logs(source=LogSource.STDERR)]
            assert errors == ["c"]


async def test_signals_and_codes_are_told_apart() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            for command, code, reason in (
                ("kill -SEGV $$", 139, Reason.SIGNALLED),
                ("kill -KILL $$", 137, Reason.SIGNALLED),
                ("exit 137", 137, Reason.SIGNALLED),
                ("exit 126", 126, Reason.EXIT_CODE),
                ("exit 128", 128, Reason.EXIT_CODE),
                ("exit 193", 193, Reason.EXIT_CODE),
                ("exit 255", 255, Reason.EXIT_CODE),
                ("no-such-program", 127, Reason.EXIT_CODE),
            ):
                result = await hodei.run(command)
                assert (result.exit_code, result.reason) == (code, reason), command


async def test_what_cannot_start_says_why() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            result = await hodei.run(["no-such-program"])
            assert (result.state, result.reason) == (JobState.FAILED, Reason.START_FAILED)
            assert result.message is not None
            assert "no such program: 'no-such-program'" in result.message
            assert result.exit_code is None
            assert result.started_at is None
            assert [attempt.started_at for attempt in result.attempts] == [None]
            with pytest.raises(JobFailedError, match="no such directory"):
                await hodei.run("true", cwd="no-such-directory", check=True)


async def test_check_shows_the_command_and_the_end_of_its_errors() -> None:
    async with Hodei() as hodei:
        with pytest.raises(JobFailedError) as caught:
            await hodei.run("for i in $(seq 30); do echo line $i >&2; done; exit 4", check=True)
    text = str(caught.value)
    assert "exit 4" in text
    assert "exit code 4" in text
    assert "line 30" in text
    assert "line 11\n" in text
    assert "line 10\n" not in text
    assert caught.value.result is not None
    assert caught.value.result.exit_code == 4


async def test_nothing_of_a_job_goes_through_a_shell_that_is_no_shell_text(
    tmp_path: Path,
) -> None:
    """The catalogue's H3: `; touch pwned` in each field."""
    evil = f"; touch {tmp_path}/pwned; $(touch {tmp_path}/pwned)"
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[LocalProvider(cwd=str(tmp_path))]) as hodei:
            result = await hodei.run(
                ["printf", "%s", evil],
                name=evil,
                env={"EVIL": evil},
                labels={"evil": evil},
                key=evil,
                stdin=evil.encode(),
            )
            assert result.stdout == evil
            result = await hodei.run('printf %s "$EVIL"', env={"EVIL": evil})
            assert result.stdout == evil
    assert list(tmp_path.iterdir()) == []


async def test_cancel_ends_the_tree_with_those_who_fled() -> None:
    """The ancestor's cancel changed a row and let the process run."""
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit(
                "setsid sh -c 'setsid sleep 300 & sleep 300' & sleep 300 & echo up; wait",
                env={"MARK": "fled-and-cancelled"},
            )
            async for _ in job.logs():
                break
            assert processes_with("MARK=fled-and-cancelled")
            result = await job.cancel()
            assert processes_with("MARK=fled-and-cancelled") == []
    assert (result.state, result.reason, result.exit_code) == (
        JobState.CANCELLED,
        Reason.CANCELLED,
        143,
    )


async def test_a_timeout_ends_the_tree_and_keeps_what_it_printed() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            result = await hodei.run(
                "trap 'echo bye; exit 5' TERM; echo up; sleep 300 & wait", timeout=0.3
            )
    assert (result.state, result.reason, result.exit_code) == (
        JobState.TIMED_OUT,
        Reason.TIMEOUT,
        5,
    )
    assert result.stdout == "up\nbye\n"


async def test_a_job_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit(
                "trap '' TERM; echo up; while :; do sleep 0.05; done", grace=0.3
            )
            async for _ in job.logs():
                break
            result = await job.cancel()
    assert (result.state, result.exit_code) == (JobState.CANCELLED, 137)


async def test_leaving_by_an_exception_ends_what_runs() -> None:
    with anyio.fail_after(LIMIT), pytest.raises(KeyError):
        async with Hodei() as hodei:
            job = await hodei.submit("echo up; sleep 300", env={"MARK": "left-behind"})
            async for _ in job.logs():
                break
            raise KeyError
    assert processes_with("MARK=left-behind") == []
    result = await job.wait()
    assert (result.state, result.reason, result.exit_code) == (
        JobState.FAILED,
        Reason.INTERRUPTED,
        143,
    )
    assert result.stdout == "up\n"


async def test_a_background_grandchild_does_not_hold_the_job() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            result = await hodei.run("sleep 300 & echo done", env={"MARK": "kept-the-pipe"})
            assert result.ok
            assert result.stdout == "done\n"
            assert processes_with("MARK=kept-the-pipe") == []


async def test_a_guard_that_is_killed_loses_its_jobs_and_the_next_ones_run() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[LocalProvider(slots=2)]) as hodei:
            async with hodei.events(WorkerLost) as stream:
                fled = "setsid sh -c 'setsid sleep 300 & sleep 300' & echo up; sleep 300"
                once = await hodei.submit(fled, env={"MARK": "guard-killed"})
                again = await hodei.submit(
                    'echo up; if [ "$HODEI_ATTEMPT" = 1 ]; then sleep 300; fi',
                    env={"MARK": "guard-killed"},
                    retry=RetryPolicy(max_attempts=2, backoff=Backoff(first=0)),
                )
                for job in (once, again):
                    async for _ in job.logs():
                        break
                os.kill(guard_pid(), signal.SIGKILL)
                lost = await once.wait()
                assert (lost.state, lost.reason) == (JobState.FAILED, Reason.WORKER_LOST)
                assert lost.exit_code is None
                assert isinstance(await stream.__anext__(), WorkerLost)
            retried = await again.wait()
            assert retried.ok
            reasons = [attempt.reason for attempt in retried.attempts]
            assert reasons == [Reason.WORKER_LOST, None]
            assert processes_with("MARK=guard-killed") == []
            assert (await hodei.run("echo next")).stdout == "next\n"


async def test_a_job_that_kills_its_parent_kills_no_more_than_its_guard() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            result = await hodei.run("kill -9 $PPID; sleep 300")
            assert (result.state, result.reason) == (JobState.FAILED, Reason.WORKER_LOST)
            assert (await hodei.run("echo next")).stdout == "next\n"


async def test_slots_are_the_cpus_and_bound_what_runs() -> None:
    provider = LocalProvider()
    slots = provider.offer.slots
    assert 1 <= slots <= len(os.sched_getaffinity(0))
    with anyio.fail_after(LIMIT):
        async with Hodei(providers=[provider]) as hodei:
            most = (await hodei.stats()).slots_total
            assert most == slots
            result = await hodei.run("true", resources=Resources(cpus=slots + 1))
            assert result.reason is Reason.UNSCHEDULABLE


async def test_what_is_too_large_for_one_answer_says_so() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit("yes 0123456789 | head -c 9000000")
            result = await job.wait()
            assert result.truncated
            assert len(result.stdout) == 64 * 1024
            with pytest.raises(OutputTooLargeError, match="8388608"):
                await job.output()
            with pytest.raises(ValueError, match="attempt"):
                await job.output(attempt=2)
            size = sum([sum(len(e.data) for e in batch) async for batch in job.logs().batches()])
            assert size == 9_000_000


async def test_output_of_a_running_job_is_what_it_printed_so_far() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei:
            job = await hodei.submit("echo so far; exec sleep 300")
            async for _ in job.logs():
                break
            assert await job.output() == b"so far\n"
            assert [e.text async for e in job.logs(follow=False)] == ["so far"]
            await job.cancel()
            assert await job.output() == b"so far\n"
            failed = await hodei.submit(["no-such-program"])
            await failed.wait()
            assert await failed.output() == b""


async def test_events_tell_of_each_end_once() -> None:
    with anyio.fail_after(LIMIT):
        async with Hodei() as hodei, hodei.events(JobFinished) as stream:
            jobs = await hodei.submit_many([["true"]] * 50)
            seen = set()
            async for event in stream:
                assert isinstance(event, JobFinished)
                assert event.job_id not in seen
                seen.add(event.job_id)
                if len(seen) == len(jobs):
                    break


async def test_bad_jobs_change_nothing() -> None:
    async with Hodei() as hodei:
        for command, fields in (
            ("", {}),
            ("a\0b", {}),
            ("true", {"env": {"A": "b\0"}}),
            ("true", {"timeout": -1}),
            ("true", {"labels": {"hodei.x": "y"}}),
            ("true", {"priority": "high"}),
            ("true", {"env": {"A": "x" * 1_100_000}}),
        ):
            with pytest.raises(InvalidJobError):
                await hodei.submit(command, **fields)
        assert await hodei.list_jobs() == []
