"""What cannot be started says why, in words, and leaves nothing behind."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hodei_core.ports import NotStartedError, StartFailedError
from tests.local.helpers import Local, Recorder, execution, local

pytestmark = pytest.mark.anyio


def _file(folder: Path, content: str, mode: int = 0o755) -> list[str]:
    path = folder / "program"
    path.write_text(content)
    path.chmod(mode)
    return [str(path)]


def _loop(folder: Path) -> list[str]:
    path = folder / "program"
    path.symlink_to("program")
    return [str(path)]


CASES: list[tuple[str, Callable[[Path], Any], dict[str, Any], str]] = [
    (
        "unknown",
        lambda _: ["hodei-no-such"],
        {"env": {"PATH": "/bin:/usr/bin"}},
        "no such program: 'hodei-no-such' (looked in PATH=/bin:/usr/bin)",
    ),
    ("no path", lambda _: ["/no/such"], {}, "no such program: '/no/such'"),
    ("relative", lambda _: ["./such"], {}, "no such program: './such'"),
    (
        "below a file",
        lambda _: ["/etc/passwd/such"],
        {},
        "no such program: '/etc/passwd/such' (a part of the path is no directory)",
    ),
    ("not executable", lambda f: _file(f, "x", 0o644), {}, "not executable: '{folder}/program'"),
    (
        "not executable in PATH",
        lambda f: _file(f, "x", 0o644) and ["program"],
        {"env": {"PATH": "{folder}"}},
        "not executable: '{folder}/program'",
    ),
    ("directory", lambda _: ["/etc"], {}, "not a program but a directory: '/etc'"),
    (
        "no format",
        lambda f: _file(f, "echo hi\n"),
        {},
        (
            "not executable: '{folder}/program' is in no format that the system runs"
            " (a script needs a first line such as #!/bin/sh)"
        ),
    ),
    (
        "no interpreter",
        lambda f: _file(f, "#! /no/such/interpreter -x\n"),
        {},
        "the interpreter of '{folder}/program' does not exist: '/no/such/interpreter'",
    ),
    ("no directory", lambda _: ["true"], {"cwd": "/no/such"}, "no such directory: '/no/such'"),
    (
        "file as directory",
        lambda _: ["true"],
        {"cwd": "/etc/passwd"},
        "not a directory: '/etc/passwd'",
    ),
    (
        "long argument",
        lambda _: ["true", "x" * 131_072],
        {},
        "an argument is too long: number 1 has 131072 bytes; one may have 131071 bytes",
    ),
    (
        "long shell text",
        lambda _: "true " + "x" * 131_067,
        {},
        "an argument is too long: number 2 has 131072 bytes; one may have 131071 bytes",
    ),
    (
        "long variable",
        lambda _: ["true"],
        {"env": {"LONG": "x" * 131_067}},
        "a variable is too long: LONG has 131072 bytes with its name; one may have 131071",
    ),
    (
        "loop of links",
        _loop,
        {},
        "cannot run '{folder}/program': Too many levels of symbolic links",
    ),
]


@pytest.mark.parametrize(
    ("command", "fields", "text"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
async def test_a_job_that_cannot_be_started_says_why(
    tmp_path: Path, command: Callable[[Path], Any], fields: dict[str, Any], text: str
) -> None:
    if "env" in fields:
        fields = {"env": {k: v.format(folder=tmp_path) for k, v in fields["env"].items()}}
    async with local(cwd=tmp_path) as here:
        descriptors = os.listdir(f"/proc/{here.guard_pid}/fd")
        output = Recorder()
        with pytest.raises(StartFailedError) as failure:
            await here.session.execute(execution(command(tmp_path), **fields), output)
        assert os.listdir(f"/proc/{here.guard_pid}/fd") == descriptors
        assert str(failure.value) == text.format(folder=tmp_path)
        assert output.calls == []
        assert (await here.run(["true"]))[0].code == 0


async def test_a_program_that_is_being_written_is_not_run(tmp_path: Path) -> None:
    command = _file(tmp_path, "#!/bin/sh\n")
    async with local() as here:
        with open(command[0], "a"), pytest.raises(StartFailedError) as failure:  # noqa: ASYNC230
            await here.session.execute(execution(command), Recorder())
        assert str(failure.value) == f"not executable: '{command[0]}' is open for writing"
        assert (await here.run(command))[0].code == 0


async def test_the_longest_argument_that_the_system_takes_runs() -> None:
    async with local() as here:
        assert (await here.run(["true", "x" * 131_071]))[0].code == 0
        assert (await here.run(["true"], env={"LONG": "x" * 131_066}))[0].code == 0


async def test_a_directory_that_is_deleted_between_two_jobs_is_missed(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    async with local(cwd=place) as here:
        assert await here.text(["pwd"]) == f"{place}\n"
        place.rmdir()
        with pytest.raises(StartFailedError, match=f"no such directory: '{place}'"):
            await here.session.execute(execution(["pwd"]), Recorder())
        place.mkdir()
        assert await here.text(["pwd"]) == f"{place}\n"


async def test_a_shortage_of_descriptors_in_the_host_gives_the_job_back_and_leaks_none() -> None:
    async with local() as here:
        before = os.listdir("/proc/self/fd")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for spare in range(5):
            resource.setrlimit(resource.RLIMIT_NOFILE, (_highest() + 1 + spare, hard))
            try:
                fillers = _fill(spare)
                try:
                    with pytest.raises(NotStartedError, match="Too many open files"):
                        await here.session.execute(execution(["cat"], stdin=b"x"), Recorder())
                finally:
                    for fd in fillers:
                        os.close(fd)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert os.listdir("/proc/self/fd") == before
        assert (await here.run(["true"]))[0].code == 0


def _highest() -> int:
    return max(int(name) for name in os.listdir("/proc/self/fd"))


def _fill(spare: int) -> list[int]:
    """Open descriptors until only `spare` are left."""
    fds = []
    while True:
        try:
            fds.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    for _ in range(spare):
        os.close(fds.pop())
    return fds


async def _limit_guard(here: Local, kind: int, soft: int) -> None:
    hard = resource.prlimit(here.guard_pid, kind)[1]
    resource.prlimit(here.guard_pid, kind, (soft, hard))


async def test_a_shortage_of_descriptors_in_the_guard_gives_the_job_back() -> None:
    async with local() as here:
        await here.run(["true"])
        used = len(os.listdir(f"/proc/{here.guard_pid}/fd"))
        for spare in range(2):
            await _limit_guard(here, resource.RLIMIT_NOFILE, used + spare)
            output = Recorder()
            with pytest.raises(NotStartedError, match="descriptors"):
                await here.session.execute(execution(["true", "x" * 50_000 * spare]), output)
            assert output.calls == []
        await _limit_guard(here, resource.RLIMIT_NOFILE, 1024)
        assert len(os.listdir(f"/proc/{here.guard_pid}/fd")) == used
        assert (await here.run(["true"]))[0].code == 0


async def test_a_shortage_of_memory_gives_the_job_back() -> None:
    async with local() as here:
        await here.run(["true"])
        status = Path(f"/proc/{here.guard_pid}/statm").read_text()
        await _limit_guard(
            here, resource.RLIMIT_AS, int(status.split()[0]) * resource.getpagesize()
        )
        output = Recorder()
        with pytest.raises(NotStartedError, match="the system could start no process"):
            await here.session.execute(execution(["true"]), output)
        assert output.calls == []
        await _limit_guard(here, resource.RLIMIT_AS, resource.RLIM_INFINITY)
        assert (await here.run(["true"]))[0].code == 0


async def test_a_failed_start_that_is_cancelled_lets_the_cancellation_through() -> None:
    async with local() as here:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await here.session.execute(execution(["true"]), Recorder())
            pytest.fail("not cancelled")
        assert scope.cancelled_caught
