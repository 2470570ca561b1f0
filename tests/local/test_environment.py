"""The environment of jobs: what programs need, and no token of the host's."""

from __future__ import annotations

import pytest

from hodei_core.backends.local.environment import base_environment
from tests.local.helpers import (
    PYTHON,
    REPOSITORY,
    Recorder,
    alive,
    execution,
    local,
    script_environment,
    started,
    watching,
)

HOST = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "USER": "me",
    "LOGNAME": "me",
    "SHELL": "/bin/zsh",
    "LANG": "de_DE.UTF-8",
    "LC_TIME": "C",
    "TZ": "Europe/Berlin",
    "TMPDIR": "/var/tmp",
    "XDG_RUNTIME_DIR": "/run/user/1",
    "VIRTUAL_ENV": "/venv",
    "CONDA_PREFIX": "/conda",
    "LD_LIBRARY_PATH": "/lib",
    "SSL_CERT_FILE": "/cert",
    "SSL_CERT_DIR": "/certs",
    "CUDA_VISIBLE_DEVICES": "0",
}
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "s",
    "PYTHONPATH": "/p",
    "XDGX": "1",
    "LC": "1",
    "path": "/x",
    "TERM": "xterm-256color",
    "LD_PRELOAD": "/evil.so",
    "HODEI_TOKEN": "t",
}


def test_by_default_only_what_programs_need_is_passed() -> None:
    assert base_environment("default", HOST | SECRETS) == HOST | {"TERM": "dumb"}


def test_what_the_host_lacks_is_not_made_up() -> None:
    assert base_environment("default", {}) == {"TERM": "dumb"}


def test_inherit_passes_all_but_the_marks_of_this_library() -> None:
    expected = {name: value for name, value in (HOST | SECRETS).items() if name != "HODEI_TOKEN"}
    assert base_environment("inherit", HOST | SECRETS | {"": "odd"}) == expected


def test_a_mapping_stands_for_itself() -> None:
    assert base_environment({"A": "1"}, HOST) == {"A": "1"}


def test_a_host_inside_a_job_names_the_jobs_around_it() -> None:
    inside = {"HODEI_JOB_ID": "inner", "HODEI_HOST": "h"}
    assert base_environment({}, inside) == {"HODEI_OUTER_JOBS": "inner"}
    deeper = inside | {"HODEI_OUTER_JOBS": "outer"}
    assert base_environment({}, deeper) == {"HODEI_OUTER_JOBS": "outer:inner"}


def _parsed(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.mark.anyio
async def test_a_job_gets_the_base_its_marks_and_its_own_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("LANG", "C")
    monkeypatch.delenv("LC_ALL", raising=False)
    async with local() as here:
        job = execution(["env"], env={"LANG": "en_US.UTF-8", "EXTRA": "a=b\nc"})
        output = Recorder()
        await here.session.execute(job, output)
        text = output.stdout.decode()
    assert "EXTRA=a=b\nc\n" in text
    env = _parsed(text.replace("EXTRA=a=b\nc\n", ""))
    assert "MY_TOKEN" not in env
    assert env["LANG"] == "en_US.UTF-8"
    assert env["TERM"] == "dumb"
    assert env["HODEI_JOB_ID"] == job.job_id
    assert env["HODEI_ATTEMPT"] == "1"
    assert env["HODEI_HOST"] == here.host_id


@pytest.mark.anyio
async def test_the_choice_of_the_provider_holds_for_its_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    async with local(env="inherit") as here:
        assert "MY_TOKEN=secret\n" in await here.text(["env"])
    async with local(env={"ONLY": "this"}) as here:
        env = _parsed(await here.text(["/usr/bin/env"]))
        assert {name: env[name] for name in env if not name.startswith("HODEI_")} == {
            "ONLY": "this"
        }
        assert await here.text(["echo", "found without a PATH"]) == "found without a PATH\n"


@pytest.mark.anyio
async def test_the_guard_itself_knows_no_token_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    async with local() as here:
        assert "secret" not in await here.text("tr '\\0' '\\n' < /proc/$PPID/environ")


INNER = """
import anyio, signal
from tests.local.helpers import Recorder, local, execution

signal.signal(signal.SIGTERM, signal.SIG_IGN)

class Printer(Recorder):
    def feed(self, source, data):
        print(data.decode(), end="", flush=True)
        return True

async def main():
    async with local() as here:
        print(here.guard_pid, flush=True)
        job = execution("trap '' TERM; setsid sleep 300 & echo $!; echo $$; wait")
        await here.session.execute(job, Printer())

anyio.run(main)
"""


@pytest.mark.anyio
async def test_a_host_inside_a_job_ends_with_it_and_so_do_its_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ending the outer job kills the inner guard too: what it ran is known by its outer jobs."""
    monkeypatch.setenv("PYTHONPATH", script_environment()["PYTHONPATH"])
    async with (
        local(env="inherit", cwd=REPOSITORY) as here,
        started(here, [PYTHON, "-c", INNER], grace=0.1) as job,
    ):
        pids = await job.output.pids(3)
        with watching(*pids):
            end = await job.cancelled()
            assert end.code == 137
            assert not any(alive(pid) for pid in pids)
