from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SIMULATED = """
import pytest
from hodei_core.testing import run_simulated, simulated

SEEDS = []

@pytest.fixture
def fresh():
    return []
"""


class Project:
    """A folder with one file of tests, and pytest run in it without any configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, source: str) -> None:
        (self.folder / "test_it.py").write_text(SIMULATED + source)

    def command(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=cwd or self.folder,
            env={name: value for name, value in os.environ.items() if "PYTEST" not in name},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def pytest(self, *options: str, cwd: Path | None = None) -> str:
        """Return what pytest prints."""
        done = self.command(
            *("pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"),
            *("-rfEs", *options),
            cwd=cwd,
        )
        assert done.stderr == ""
        return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def outcome(printed: str) -> dict[str, int]:
    """Return how many tests passed, failed and so on."""
    return {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", printed.split("\n")[-2])}


FAILS_FROM_SEVEN = """
@pytest.mark.parametrize("word", ["a b", "c"])
@simulated(seed=5)
async def test_fails(word, hodei_seed):
    assert hodei_seed < 7 or word == "c"
"""


def test_a_simulated_test_runs_with_its_own_seed_and_needs_no_marker(project: Project) -> None:
    project.write("""
@simulated(seed=5)
async def test_one(hodei_seed):
    assert hodei_seed == 5

@simulated
async def test_none(hodei_seed):
    assert hodei_seed == 0
""")
    assert outcome(project.pytest("--strict-markers")) == {"passed": 2}


def test_an_option_replaces_the_seed_of_every_simulated_test(project: Project) -> None:
    project.write("""
import random

@simulated(seed=5)
async def test_one(hodei_seed):
    assert hodei_seed == 9
    SEEDS.append(random.random())

class TestIt:
    @simulated(seed=6)
    async def test_two(self):
        SEEDS.append(random.random())

def test_the_seed_was_that():
    random.seed("random 9")
    assert SEEDS == [random.random()] * 2
""")
    assert outcome(project.pytest("--hodei-seed", "9")) == {"passed": 3}


@pytest.mark.parametrize("options", [["-p", "no:anyio"], ["-o", "anyio_mode=auto"]], ids=str)
def test_it_goes_with_and_without_the_plugin_of_anyio(project: Project, options: list[str]) -> None:
    project.write("""
import anyio

@simulated(seed=5)
async def test_one(request):
    await anyio.sleep(3600)
    assert anyio.current_time() == 3600
    assert "anyio_backend" not in request.fixturenames
""")
    assert outcome(project.pytest(*options)) == {"passed": 1}


def test_a_failure_names_its_seed_and_the_command_that_replays_it(project: Project) -> None:
    project.write(FAILS_FROM_SEVEN)
    printed = project.pytest("--hodei-seeds", "5")
    assert "- simulation -" in printed
    command = re.search(r"^seed 7; replay it: (.*)$", printed, re.MULTILINE)
    assert command, printed
    words = shlex.split(command[1])
    assert words == ["pytest", "test_it.py::test_fails[a b]", "--hodei-seed", "7"]
    replayed = project.command(*words).stdout
    assert outcome(replayed)["failed"] == 1
    assert f"seed 7; replay it: {command[1]}" in replayed


def test_a_test_that_is_not_simulated_has_no_such_section(project: Project) -> None:
    project.write("def test_plain():\n    assert 0\n")
    printed = project.pytest("--hodei-seeds", "5")
    assert outcome(printed)["failed"] == 1
    assert "simulation" not in printed


def test_the_command_fits_the_folder_that_pytest_was_started_in(project: Project) -> None:
    (project.folder / "pytest.ini").write_text("[pytest]\n")
    project.write("@simulated\nasync def test_no():\n    assert 0\n")
    below = project.folder / "below"
    below.mkdir()
    printed = project.pytest("..", cwd=below)
    assert "replay it: pytest ../test_it.py::test_no --hodei-seed 0" in printed


def test_seeds_are_tried_until_one_fails(project: Project) -> None:
    project.write(FAILS_FROM_SEVEN)
    printed = project.pytest("-v", "--hodei-seeds", "5")
    assert outcome(printed) == {"failed": 1, "passed": 7, "skipped": 2}
    for word, outcomes in (
        ("a b", ["PASSED", "PASSED", "FAILED", "SKIPPED", "SKIPPED"]),
        ("c", ["PASSED"] * 5),
    ):
        for seed, what in enumerate(outcomes, 5):
            assert f"test_fails[{word}-seed={seed}] {what}" in printed
    assert "seed 7 failed" in printed


def test_both_options_together_count_from_the_given_seed(project: Project) -> None:
    project.write(FAILS_FROM_SEVEN)
    printed = project.pytest("--hodei-seeds", "2", "--hodei-seed", "1")
    assert outcome(printed) == {"passed": 4}


def test_each_seed_has_fixtures_of_its_own(project: Project) -> None:
    project.write("""
@simulated
async def test_one(fresh, tmp_path):
    assert fresh == [] and list(tmp_path.iterdir()) == []
    fresh.append(1)
    (tmp_path / "x").touch()

class TestIt:
    @simulated
    async def test_two(self, fresh):
        assert fresh == []
        fresh.append(1)
""")
    assert outcome(project.pytest("--hodei-seeds", "3")) == {"passed": 6}


def test_a_simulated_function_that_is_no_test_keeps_its_seed(project: Project) -> None:
    project.write("""
import random

@simulated(seed=5)
async def number():
    return random.random()

@simulated(seed=5)
async def test_one():
    SEEDS.append(random.random())

def test_two():
    assert SEEDS[0] != number()
    random.seed("random 5")
    assert number() == random.random()
""")
    assert outcome(project.pytest("--hodei-seed", "9")) == {"passed": 2}


def test_a_plain_test_can_ask_for_the_seed(project: Project) -> None:
    project.write("""
def test_one(hodei_seed):
    SEEDS.append(hodei_seed)
    async def body():
        assert hodei_seed < 2
    run_simulated(body, seed=hodei_seed)
""")
    printed = project.pytest("--hodei-seeds", "4")
    assert outcome(printed) == {"failed": 1, "passed": 2, "skipped": 1}
    assert "seed 2; replay it: pytest test_it.py::test_one --hodei-seed 2" in printed


def test_other_tests_run_once(project: Project) -> None:
    project.write("def test_plain():\n    pass\n")
    assert outcome(project.pytest("--hodei-seeds", "4")) == {"passed": 1}


def test_it_goes_with_hypothesis(project: Project) -> None:
    project.write("""
import anyio, random
from hypothesis import given, settings, strategies as st

@settings(max_examples=5, database=None)
@given(seconds=st.integers(0, 9))
@simulated(seed=5)
async def test_one(seconds):
    await anyio.sleep(seconds)
    assert anyio.current_time() == seconds
    SEEDS.append(random.random())

def test_each_example_had_the_seed():
    seeds = iter(SEEDS)
    for seed in (5, 6):
        random.seed(f"random {seed}")
        assert [next(seeds) for _ in range(5)] == [random.random()] * 5
""")
    assert outcome(project.pytest("--hodei-seeds", "2")) == {"passed": 3}


def test_it_goes_with_xdist(project: Project) -> None:
    project.write(FAILS_FROM_SEVEN)
    printed = project.pytest("-n", "2", "--hodei-seeds", "3")
    assert outcome(printed)["failed"] == 1
    assert "seed 7; replay it: pytest 'test_it.py::test_fails[a b]' --hodei-seed 7" in printed


@pytest.mark.parametrize("option", ["--hodei-seed=-1", "--hodei-seeds=0", "--hodei-seeds=x"])
def test_what_is_no_seed_is_refused(project: Project, option: str) -> None:
    done = project.command("pytest", option)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"argument {option.split('=')[0]}: must be a whole number from" in done.stderr


def test_the_options_are_in_the_help(project: Project) -> None:
    printed = project.command("pytest", "--help").stdout
    assert re.search(r"--hodei-seed=N .*--hodei-seeds=K", printed, re.DOTALL)


def test_loading_it_imports_nothing_of_the_library(project: Project) -> None:
    (project.folder / "test_it.py").write_text("""
import sys

def test_light(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("hodei_core")
    names = {name.partition(".")[0] for name in sys.modules}
    assert not names & {"hodei_core", "trio", "anyio", "attr", "hypothesis"}
""")
    assert outcome(project.pytest("-p", "no:anyio", "--hodei-seeds", "2")) == {"passed": 1}
