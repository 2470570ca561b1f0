from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
from pathlib import Path

import anyio
import pytest

from hodei_core import Execution, JobSpec, Output
from hodei_core.backends.memory import MemoryProvider
from hodei_core.cli import running
from hodei_core.cli.console import Console
from hodei_core.cli.shows import PlainShow
from hodei_core.ports import ProviderHost
from tests.cli.helpers import (
    GRACEFUL,
    STUBBORN,
    Program,
    default_signals,
    is_full,
    until,
    waiting_bytes,
)


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
    ids=["sigint", "sigterm", "sighup"],
)
def test_a_signal_cancels_the_job_cleanly(number: signal.Signals, code: int, name: str) -> None:
    with Program("run", GRACEFUL) as program:
        assert program.line() == b"ready\n"
        program.send(number)
        ended = program.end()
        assert (ended.code, ended.out) == (code, b"bye\n")
        assert ended.err == (
            f"hodei: {name}: cancelling the job, which has 5 s to end ({name} again: kill it)\n"
            f"hodei: the job was cancelled: {name}\n"
        )
        assert program.left() == []


def test_ctrl_c_kills_a_job_that_ignores_it_after_its_grace() -> None:
    with Program("run", "--grace", "300ms", STUBBORN) as program:
        assert program.line() == b"ready\n"
        program.send(signal.SIGINT)
        ended = program.end()
        assert ended.code == 130
        assert "has 0.3 s to end" in ended.err
        assert program.left() == []


def test_a_second_ctrl_c_kills_the_job_at_once() -> None:
    with Program("run", "--grace", "1000", STUBBORN) as program:
        assert program.line() == b"ready\n"
        program.send(signal.SIGINT)
        assert "cancelling the job" in program.error_line()
        program.send(signal.SIGINT)
        ended = program.end()
        assert ended.code == 130
        assert ended.err == "hodei: Ctrl-C again: killing the job\n"
        until(lambda: program.left() == [], 5)


def test_ctrl_c_ends_a_job_that_has_not_started() -> None:
    with Program("job", "run", "--delay", "1h", "--command", "echo never") as program:
        assert program.line().startswith("✅ Job queued: ".encode())
        program.send(signal.SIGINT)
        ended = program.end()
        assert ended.code == 130
        assert b"CANCELLED  no exit code  0 log lines" in ended.out


def test_ctrl_c_ends_the_attempts() -> None:
    with Program("run", "--max-attempts", "100", "--backoff", "1h", "echo x; exit 1") as program:
        assert program.line() == b"x\n"
        assert program.error_line().startswith("hodei: attempt 1 failed")
        program.send(signal.SIGINT)
        assert program.end().code == 130


def test_ctrl_c_before_there_is_a_job_ends_the_program() -> None:
    # Its own input is read before the job starts, and this one never ends.
    with Program("run", "--stdin", "-", "cat", stdin=subprocess.PIPE) as program:
        program.stdin.write(b"x")
        program.stdin.flush()
        until(lambda: waiting_bytes(program.stdin) == 0 and _sleeps(program.process.pid))
        program.send(signal.SIGINT)
        assert program.process.wait(30) == 130
        assert "Traceback" not in program.stderr.read().decode()


def _sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


async def test_ctrl_c_while_the_library_opens_ends_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def handler(execution: Execution, output: Output) -> None:
        pytest.fail("the job was run")

    class Interrupted(MemoryProvider):
        async def open(self, host: ProviderHost) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.wait_all_tasks_blocked()
            await super().open(host)

    monkeypatch.setattr(running, "default_provider", lambda: Interrupted(handler))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with anyio.fail_after(10):
            assert await running.run_job(JobSpec("x"), PlainShow(Console())) == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_that_our_parent_ignores_is_ignored(tmp_path: Path) -> None:
    """As `nohup` and the `&` of a script without job control want it."""
    go = tmp_path / "go"
    command = f"echo ready; until [ -e {go} ]; do sleep 0.01; done; echo end"
    with Program("run", command, through=("sh", "-c", 'trap "" INT; exec "$@"', "sh")) as program:
        assert program.line() == b"ready\n"
        program.send(signal.SIGINT)
        go.touch()
        ended = program.end()
        assert (ended.code, ended.out, ended.err) == (0, b"end\n", "")


def test_sigterm_ends_the_program_though_nobody_reads_its_output() -> None:
    reading, writing = os.pipe()
    with Program("run", "yes", stdout=writing) as program:
        until(lambda: is_full(writing))
        program.send(signal.SIGTERM)
        assert program.process.wait(30) == 143
        assert program.left() == []
    os.close(reading)
    os.close(writing)


def test_ctrl_c_at_a_terminal_cancels_the_job() -> None:
    terminal, ours = pty.openpty()
    with Program(
        "run",
        GRACEFUL.replace("echo bye", "printf bye"),
        stdin=ours,
        stdout=ours,
        stderr=ours,
        start_new_session=True,
        preexec_fn=_take_terminal,
    ) as program:
        os.close(ours)
        _read_until(terminal, b"ready\r\n")
        os.write(terminal, b"\x03")
        shown = _read_until(terminal, b"\r\nhodei: the job was cancelled: Ctrl-C\r\n")
        assert b"\r\nhodei: Ctrl-C: cancelling the job" in shown
        assert b"bye\r\n" in shown
        assert program.process.wait(30) == 130
        assert program.left() == []
    os.close(terminal)


def _take_terminal() -> None:
    default_signals()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(fd: int, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += os.read(fd, 1000)
    return data
