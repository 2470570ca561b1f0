"""The plugin for pytest: other seeds for simulated tests, and how to replay one that failed.

pytest loads it in every run of whoever has installed hodei_core, so it is no part of the package:
to import that would cost each of those runs 40 ms, and hide it from measurements of coverage.
What it needs of the package, a file with simulated tests has imported.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable, Generator

import pluggy
import pytest

_FAILED = pytest.StashKey[dict[str, int]]()
"""The first seed that failed, by the test's id without its seed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose seeds."""
    group = parser.getgroup("hodei_core", "simulated tests (hodei_core)")
    group.addoption(
        "--hodei-seed",
        type=_whole_number_from(0),
        metavar="N",
        help="run simulated tests with this seed instead of their own",
    )
    group.addoption(
        "--hodei-seeds",
        type=_whole_number_from(1),
        metavar="K",
        default=1,
        help="run each simulated test with K seeds, from its own (or --hodei-seed) on, "
        "until one fails",
    )


@pytest.fixture
def hodei_seed(request: pytest.FixtureRequest) -> int:
    """Return the seed that this test runs with, for `run_simulated(..., seed=hodei_seed)`."""
    return _seed(request.node, getattr(request.node, "obj", None))


@pytest.hookimpl(trylast=True)  # so that the seed comes last in the id
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each seed, if more than one is asked for."""
    count = metafunc.config.getoption("hodei_seeds")
    wanted = _own_seed(metafunc.function) is not None or "hodei_seed" in metafunc.fixturenames
    if count == 1 or not wanted:
        return
    if "hodei_seed" not in metafunc.fixturenames:
        metafunc.fixturenames.append("hodei_seed")
    first = _first_seed(metafunc.config, metafunc.function)
    seeds = range(first, first + count)
    ids = [f"seed={seed}" for seed in seeds]
    metafunc.parametrize("hodei_seed", seeds, indirect=True, ids=ids)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out the seeds after one that failed."""
    failed = item.config.stash.get(_FAILED, {}).get(_without_seed(item.nodeid))
    if failed is not None:
        pytest.skip(f"seed {failed} failed")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, None]:
    """Tell the simulation of its seed."""
    test = getattr(item, "obj", None)
    if _own_seed(test) is None:
        yield
        return
    from hodei_core.testing.simulation import told_seed

    token = told_seed.set(_seed(item, test))
    try:
        yield
    finally:
        told_seed.reset(token)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Add the seed of a simulated test that failed, and the command that replays it."""
    report = (yield).get_result()
    test = getattr(item, "obj", None)
    simulated = _own_seed(test) is not None or "hodei_seed" in getattr(item, "fixturenames", ())
    if not simulated or call.when != "call" or not report.failed:
        return
    seed = _seed(item, test)
    node = _without_seed(item.nodeid)
    item.config.stash.setdefault(_FAILED, {})[node] = seed
    place = shlex.quote(_from_here(item.config, node))
    text = f"seed {seed}; replay it: pytest {place} --hodei-seed {seed}"
    report.sections.append(("simulation", text))


def _own_seed(test: object) -> int | None:
    """Return the seed that `simulated` was given; None if the test is not simulated."""
    handle = getattr(test, "hypothesis", None)
    return getattr(getattr(handle, "inner_test", test), "__hodei_seed__", None)


def _first_seed(config: pytest.Config, test: object) -> int:
    told: int | None = config.getoption("hodei_seed")
    return told if told is not None else _own_seed(test) or 0


def _seed(item: pytest.Item, test: object) -> int:
    """Return the seed that a test runs with."""
    callspec = getattr(item, "callspec", None)
    params: dict[str, object] = {} if callspec is None else callspec.params
    seed = params.get("hodei_seed")
    return seed if isinstance(seed, int) else _first_seed(item.config, test)


def _without_seed(node: str) -> str:
    return re.sub(r"\[seed=\d+\]$|-seed=\d+(?=\]$)", "", node)


def _from_here(config: pytest.Config, node: str) -> str:
    """Return the id of a test as it is written where pytest was started."""
    path, separator, name = node.partition("::")
    here = config.invocation_params.dir
    if here != config.rootpath:
        path = os.path.relpath(config.rootpath / path, here)
    return path + separator + name


def _whole_number_from(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text!r}")
        return int(text)

    return whole_number
