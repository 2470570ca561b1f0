"""One attempt: what it gets, what it prints, how it ends."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from hodei_core.resources import Resources
from tests.local.helpers import PYTHON, Recorder, execution, local

pytestmark = pytest.mark.anyio


async def test_an_argument_vector_is_seen_by_no_shell() -> None:
    async with local() as here:
        assert (
            await here.text(["printf", "%s|", "$HOME", "a b", "; true", ""]) == "$HOME|a b|; true||"
        )


async def test_text_is_run_by_the_shell_that_is_asked_for() -> None:
    async with local() as here:
        assert await here.text("echo $((1 + 2)) | cat") == "3\n"
        assert await here.text("print(6 * 7)", shell=(PYTHON, "-c")) == "42\n"


async def test_input_is_empty_unless_it_is_given() -> None:
    async with local() as here:
        assert await here.text("cat; readlink /proc/self/fd/0") == "/dev/null\n"
        assert await here.text(["cat"], stdin=b"a\0b\nc") == "a\0b\nc"
        assert await here.text(["cat"], stdin=b"") == ""


async def test_ten_megabytes_of_input_reach_who_reads_and_harm_nobody_who_does_not() -> None:
    data = os.urandom(1024) * 10 * 1024
    async with local() as here:
        end, output = await here.run(["cat"], stdin=data)
        assert end.code == 0
        assert output.stdout == data
        end, output = await here.run(["true"], stdin=data)
        assert (end.code, output.stdout) == (0, b"")


async def test_the_directory_is_the_providers_and_a_jobs_own_is_relative_to_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "sub").mkdir()
    async with local(cwd=tmp_path) as here:
        assert await here.text(["pwd"]) == f"{tmp_path}\n"
        assert await here.text(["pwd"], cwd="sub") == f"{tmp_path}/sub\n"
        assert await here.text(["pwd"], cwd="/") == "/\n"
    async with local() as here:
        assert await here.text(["pwd"]) == f"{os.getcwd()}\n"


async def test_a_directory_is_in_use_no_longer_than_its_jobs(tmp_path: Path) -> None:
    async with local(cwd=tmp_path) as here:
        await here.run(["true"], cwd="/etc")
        assert os.readlink(f"/proc/{here.guard_pid}/cwd") == "/"


async def test_a_program_is_looked_up_in_the_jobs_path_relative_to_its_directory(
    tmp_path: Path,
) -> None:
    for place in ("bin", "other"):
        (tmp_path / place).mkdir()
        program = tmp_path / place / "hodei-test-program"
        program.write_text(f"#!/bin/sh\necho {place}\n")
        program.chmod(0o755)
    (tmp_path / "no" / "hodei-test-program").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "hodei-test-program").write_text("not executable")
    async with local(cwd=tmp_path) as here:
        for path, answer in [
            (f"{tmp_path}/bin:{tmp_path}/other", "bin\n"),
            (f"{tmp_path}/no:{tmp_path}/plain:{tmp_path}/other", "other\n"),
            ("other:bin", "other\n"),
        ]:
            text = await here.text(["hodei-test-program"], env={"PATH": path})
            assert text == answer
        assert await here.text(["bin/hodei-test-program"]) == "bin\n"
        assert await here.text(["hodei-test-program"], cwd="bin", env={"PATH": ""}) == "bin\n"


async def test_standard_output_and_error_stay_apart_and_byte_exact() -> None:
    everything = bytes(range(256)) * 300 + "\u2028\x1b[0m\r\xff".encode("utf-8", "replace")
    script = (
        "import sys; data = sys.stdin.buffer.read();"
        "sys.stdout.buffer.write(data); sys.stderr.buffer.write(data[::-1])"
    )
    async with local() as here:
        end, output = await here.run([PYTHON, "-c", script], stdin=everything)
    assert end.code == 0
    assert output.stdout == everything
    assert output.stderr == everything[::-1]


async def test_start_comes_first_and_the_ends_of_both_streams_last() -> None:
    async with local() as here:
        for command in ("echo a; echo b >&2; sleep 0.05; echo c", "true", "exec >&- 2>&-; exit 4"):
            _, output = await here.run(command)
            assert output.calls[0] == "started"
            assert sorted(output.calls[-2:]) == ["finish stderr", "finish stdout"]
            assert set(output.calls[1:-2]) <= {"feed"}


async def test_an_unfinished_line_arrives_while_the_job_runs() -> None:
    async with local() as here:
        output = Recorder()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(here.session.execute, execution("printf half; sleep 60"), output)
                with anyio.fail_after(5):
                    await output.saw(b"half")
                scope.cancel()


async def test_the_start_is_told_before_the_end_with_the_time_since() -> None:
    async with local() as here:
        output = Recorder()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(here.session.execute, execution("sleep 60"), output)
                with anyio.fail_after(5):
                    await output.called("started")
                scope.cancel()
        assert output.ago is not None
        assert 0.005 < output.ago < 3


async def test_every_exit_code_passes_through() -> None:
    codes: list[tuple[int, int | None]] = []

    async with local() as here:

        async def one(first: int) -> None:
            for code in range(first, 256, 8):
                end, _ = await here.run(["sh", "-c", f"exit {code}"])
                codes.append((code, end.code))

        async with anyio.create_task_group() as tasks:
            for first in range(8):
                tasks.start_soon(one, first)
    assert sorted(codes) == [(code, code) for code in range(256)]


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM", "ABRT", "HUP", "PIPE", "RTMIN"])
async def test_a_leader_ended_by_a_signal_has_128_and_its_number(name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    async with local() as here:
        end, _ = await here.run(f"kill -{int(number)} $$")
    assert end.code == 128 + number


async def test_a_shells_own_126_and_127_pass_through() -> None:
    async with local() as here:
        end, output = await here.run("/nonexistent/program")
        assert end.code == 127
        assert b"not found" in output.stderr
        end, _ = await here.run("/")
        assert end.code == 126


async def test_usage_counts_the_leader_and_the_children_it_waited_for() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    fill = f"{run}; x = b'x' * 80_000_000"
    async with local() as here:
        end, _ = await here.run([PYTHON, "-c", fill])
        assert end.usage is not None
        assert timedelta(seconds=0.3) < end.usage.cpu < timedelta(seconds=10)
        assert 80_000_000 < end.usage.max_rss_bytes < 300_000_000
        end, _ = await here.run(["true"])
        assert end.usage is not None
        assert end.usage.cpu < timedelta(seconds=0.2)
        assert 0 < end.usage.max_rss_bytes < 30_000_000


async def test_only_the_three_standard_descriptors_are_open_in_a_job() -> None:
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        async with local() as here:

            async def neighbour() -> None:
                await here.run("sleep 0.2", stdin=b"x")

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(neighbour)
                script = "import os; print(*sorted(map(int, os.listdir('/proc/self/fd'))))"
                for stdin in (None, b"input"):
                    listing = await here.text([PYTHON, "-c", script], stdin=stdin)
                    assert listing == "0 1 2 3\n"  # 3: the listing itself
    finally:
        os.close(leaked)


async def test_a_job_has_every_signal_at_its_default_and_none_blocked() -> None:
    of_the_c_library = (1 << 31) | (1 << 32)  # 32 and 33, which glibc sets itself
    async with local() as here:
        status = await here.text(["grep", "^Sig[BI]", "/proc/self/status"])
    masks = [int(line.split()[1], 16) & ~of_the_c_library for line in status.splitlines()]
    assert masks == [0, 0]


async def test_a_job_leads_a_session_of_its_own_and_dumps_no_core() -> None:
    script = (
        "import os, resource; print(os.getsid(0) == os.getpid() == os.getpgrp(),"
        "resource.getrlimit(resource.RLIMIT_CORE))"
    )
    async with local() as here:
        assert await here.text([PYTHON, "-c", script]) == "True (0, 0)\n"


async def test_five_hundred_instant_jobs_all_tell_their_exit() -> None:
    done = 0

    async with local() as here:

        async def some() -> None:
            nonlocal done
            while done < 500:
                done += 1
                output = Recorder()
                end = await here.session.execute(execution(["true"]), output)
                assert end.code == 0
                assert output.calls == ["started", "finish stdout", "finish stderr"]

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(some)


async def test_arguments_and_variables_larger_than_a_message_arrive() -> None:
    script = (
        "import os, sys;"
        "print(sum(map(len, sys.argv[1:])), sum(name.startswith('BIG') for name in os.environ))"
    )
    variables = {f"BIG{number}": "y" * 9_000 for number in range(100)}
    async with local() as here:
        text = await here.text([PYTHON, "-c", script, "a" * 131_071, "b" * 10], env=variables)
    assert text == "131081 100\n"


async def test_bytes_that_are_no_utf8_pass_through_arguments_and_variables() -> None:
    odd = os.fsdecode(b"caf\xe9")
    async with local() as here:
        _, output = await here.run(
            ["sh", "-c", 'printf "%s %s" "$1" "$ODD"', "sh", odd], env={"ODD": odd}
        )
    assert output.stdout == b"caf\xe9 caf\xe9"


async def test_memory_is_limited_only_on_request() -> None:
    command = "ulimit -d; (ulimit -d)"  # in KiB
    async with local(limit_memory=True) as here:
        text = await here.text(command, resources=Resources(1, "256MiB"))
        assert text == "262144\n262144\n"
        until = "until [ $(ulimit -H -d) != unlimited ]; do :; done; ulimit -H -d; ulimit -d"
        assert await here.text(until, resources=Resources(1, "32MiB")) == "32768\n32768\n"
        assert await here.text(command) == "unlimited\nunlimited\n"
        end, _ = await here.run(
            [PYTHON, "-c", "bytearray(300_000_000)"], resources=Resources(1, "256MiB")
        )
        assert end.code == 1
    async with local() as here:
        text = await here.text(command, resources=Resources(1, "256MiB"))
        assert text == "unlimited\nunlimited\n"
