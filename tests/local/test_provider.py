"""The provider: its arguments, its offer, what it refuses at its opening."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from hodei_core.backends.local import LocalProvider
from hodei_core.backends.local.limits import usable_cpus, usable_memory
from hodei_core.errors import ProvisionError
from hodei_core.ids import WorkerId
from hodei_core.resources import Resources
from hodei_core.workers import Offer
from tests.local.helpers import PYTHON, REPOSITORY, local, new_host, script_environment


def test_the_offer_is_the_machine_unless_told_otherwise() -> None:
    cpus = usable_cpus()
    assert LocalProvider().offer == Offer(
        provider="local", slots=cpus, resources=Resources(cpus, usable_memory())
    )
    provider = LocalProvider(
        name="here", slots=7, labels={"a": "b"}, resources=Resources(2, "1GiB")
    )
    assert provider.offer == Offer(
        provider="here", slots=7, labels={"a": "b"}, resources=Resources(2, "1GiB")
    )
    assert LocalProvider(slots=5).offer.resources.cpus == 5
    policy = provider.policy
    assert (policy.min_workers, policy.max_workers, policy.idle_timeout) == (1, 1, None)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": ""}, ValueError),
        ({"name": "a\nb"}, ValueError),
        ({"name": 1}, TypeError),
        ({"slots": 0}, ValueError),
        ({"slots": 65_537}, ValueError),
        ({"slots": 1.5}, TypeError),
        ({"slots": True}, TypeError),
        ({"labels": [("a", "b")]}, TypeError),
        ({"labels": {"a": 1}}, TypeError),
        ({"labels": {"": "1"}}, ValueError),
        ({"resources": 3}, TypeError),
        ({"env": "all"}, ValueError),
        ({"env": ["A=1"]}, TypeError),
        ({"env": {"A": 1}}, TypeError),
        ({"env": {"A=B": "1"}}, ValueError),
        ({"env": {"A": "\0"}}, ValueError),
        ({"env": {"HODEI_X": "1"}}, ValueError),
        ({"cwd": 3}, TypeError),
        ({"cwd": ""}, ValueError),
        ({"cwd": "a\0"}, ValueError),
        ({"limit_memory": 1}, TypeError),
        ({"python": 3}, TypeError),
        ({"python": ""}, ValueError),
    ],
)
def test_a_bad_argument_is_refused_by_name(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    (name,) = arguments
    with pytest.raises(error, match=f"^{name}: "):
        LocalProvider(**arguments)


async def _refusal(provider: LocalProvider) -> ProvisionError:
    with pytest.raises(ProvisionError) as refusal:
        await provider.open(new_host())
    assert refusal.value.permanent
    return refusal.value


@pytest.mark.anyio
@pytest.mark.parametrize("executable", [None, ""])
async def test_without_an_interpreter_it_says_so_by_name(
    monkeypatch: pytest.MonkeyPatch, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert "sys.executable" in str(await _refusal(LocalProvider()))


@pytest.mark.anyio
async def test_a_frozen_program_is_not_taken_for_an_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "python=" in str(await _refusal(LocalProvider()))


@pytest.mark.anyio
@pytest.mark.parametrize("python", ["/no/such/python", "/etc/passwd", "/"])
async def test_an_interpreter_that_cannot_be_run_is_refused_by_name(python: str) -> None:
    assert repr(python) in str(await _refusal(LocalProvider(python=python)))


@pytest.mark.anyio
async def test_another_system_than_linux_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "win32" in str(await _refusal(LocalProvider()))


@pytest.mark.anyio
async def test_where_modules_of_unix_are_missing_it_is_refused_by_name_too() -> None:
    script = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
sys.platform = "win32"
import anyio
from hodei_core.backends.local import LocalProvider
from hodei_core.clock import SystemClock
from hodei_core.errors import ProvisionError
from hodei_core.ports import ProviderHost

async def main():
    try:
        await LocalProvider().open(ProviderHost(host_id="h", clock=SystemClock()))
    except ProvisionError as error:
        print(error.permanent)

try:
    main().send(None)  # without an event loop: asyncio itself needs other modules there
except StopIteration:
    pass
"""
    result = await anyio.run_process(
        [PYTHON, "-c", script], env=script_environment(), cwd=REPOSITORY, stderr=None
    )
    assert result.stdout == b"True\n"


@pytest.mark.anyio
async def test_a_directory_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    provider = LocalProvider(cwd=tmp_path / "missing")
    assert f"{tmp_path}/missing" in str(await _refusal(provider))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("echo not a python >&2; exit 3", "exited with code 3; it said: not a python"),
        ("kill -9 $$", "killed by signal 9"),
    ],
)
async def test_a_program_that_is_no_interpreter_fails_with_its_own_words(
    tmp_path: Path, body: str, text: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    provider = LocalProvider(python=program)
    await provider.open(new_host())
    with pytest.raises(ProvisionError, match=text):
        await provider.provision(WorkerId("w"))
    await provider.close()


@pytest.mark.anyio
async def test_a_worker_cannot_be_made_before_the_opening_or_after_the_close() -> None:
    provider = LocalProvider()
    with pytest.raises(ProvisionError, match="not open"):
        await provider.provision(WorkerId("w"))
    await provider.open(new_host())
    await provider.close()
    with pytest.raises(ProvisionError, match="not open"):
        await provider.provision(WorkerId("w"))


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
async def test_the_guard_runs_under_every_supported_python(version: str) -> None:
    python = _interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    async with local(python=python) as here:
        assert (await here.run("echo $PPID; exit 3"))[0].code == 3
        with anyio.move_on_after(0.05):
            await here.run("setsid sleep 300 & wait")


def _interpreter(version: str) -> str | None:
    """Return the path of an interpreter of a version, as CI finds it."""
    home = Path.home() / ".pyenv" / "versions"
    found = sorted(home.glob(f"{version}.*/bin/python{version}"))
    return str(found[-1]) if found else shutil.which(f"python{version}")
