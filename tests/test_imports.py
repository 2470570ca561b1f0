"""Imports point one way, and the layers below are pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import hodei_core

PACKAGE = "hodei_core"
ROOT = Path(hodei_core.__file__).parent

# What stands on a line may import from its own line and those above it.
LAYERS = ("values", "scheduling", "ports", "runtime", "front door", "programs")
FRONT_DOOR = {"hodei", "handle", "__init__"}
PROGRAMS = {"cli", "blocking", "__main__"}
FOLDERS = {"scheduling", "ports", "runtime", "backends", "testing"}

IMPURE = {
    "anyio",
    "asyncio",
    "select",
    "selectors",
    "signal",
    "sniffio",
    "socket",
    "subprocess",
    "threading",
    "time",
    "trio",
}

# The contract of a clock, which reads it, and that of what a handler prints to.
CLOCK = "hodei_core.clock"
ASYNC_CONTRACTS = {(CLOCK, "sleep"), ("hodei_core.executions", "write")}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(part for part in parts if part != "__init__")))


SOURCES = {module_name(path): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}


def layer(module: str) -> str:
    """Return the layer of a module of ours by its full name."""
    if module == PACKAGE:
        return "front door"
    name = module.split(".")[1]
    if name in FOLDERS:
        return name
    if name in PROGRAMS:
        return "programs"
    return "front door" if name in FRONT_DOOR else "values"


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Return what a source imports, by full name, and whether it does so inside a function."""

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield (submodule if submodule in SOURCES else node.module), inside
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside or function)

    return visit(parsed(source), inside=False)


def ours(source: str) -> Iterator[tuple[str, bool]]:
    return ((name, inside) for name, inside in imports(source) if name.split(".")[0] == PACKAGE)


def wrong_directions(sources: Mapping[str, str]) -> list[str]:
    """Return the imports that point from a layer to one above it."""
    return [
        f"{module} ({layer(module)}) imports {name} ({layer(name)})"
        for module, source in sources.items()
        if layer(module) in LAYERS
        for name, _ in ours(source)
        if layer(name) in LAYERS and LAYERS.index(layer(name)) > LAYERS.index(layer(module))
    ]


def foreign_to_backends(sources: Mapping[str, str]) -> list[str]:
    """Return what backends import besides values, ports and their own folder."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        if layer(module) == "backends"
        for name, _ in ours(source)
        if layer(name) not in {"values", "ports"} and name.split(".")[:3] != module.split(".")[:3]
    ]


def imports_of_backends(sources: Mapping[str, str]) -> list[str]:
    """Return who imports a backend though only `hodei.py` may, and only inside functions."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        if layer(module) != "backends"
        for name, inside in ours(source)
        if layer(name) == "backends" and not (module == "hodei_core.hodei" and inside)
    ]


def foreign_to_suites(sources: Mapping[str, str]) -> list[str]:
    """Return what contract suites import of ours besides values, ports and one another."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        if module.startswith("hodei_core.testing.contracts")
        for name, _ in ours(source)
        if layer(name) not in {"values", "ports", "testing"}
    ]


def imports_of_test_aids(sources: Mapping[str, str]) -> list[str]:
    """Return who imports the aids for tests, and which of those imports a test runner."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        for name, _ in imports(source)
        if (name.startswith("hodei_core.testing") and layer(module) != "testing")
        or name.split(".")[0] in {"pytest", "_pytest", "hypothesis"}
    ]


def impurities(sources: Mapping[str, str]) -> list[str]:
    """Return what values and scheduling have of I/O, time, tasks and async."""
    found = []
    for module, source in sources.items():
        if layer(module) not in {"values", "scheduling"}:
            continue
        if module != CLOCK:
            found += [
                f"{module} imports {name}"
                for name, _ in imports(source)
                if name.split(".")[0] in IMPURE
            ]
        found += [
            f"{module}: {node.name} is async"
            for node in ast.walk(parsed(source))
            if isinstance(node, ast.AsyncFunctionDef) and (module, node.name) not in ASYNC_CONTRACTS
        ]
    return found


def clock_reads(sources: Mapping[str, str]) -> list[str]:
    """Return where the time is read besides the clock; backends talk to other machinery."""
    found = []
    for module, source in sources.items():
        if module == CLOCK or layer(module) in {"backends", "programs"}:
            continue
        found += [f"{module} imports time" for name, _ in imports(source) if name == "time"]
        found += [
            f"{module} calls {ast.unparse(node.func)}"
            for node in ast.walk(parsed(source))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func)
            in {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
        ]
    return found


CHECKS = [
    wrong_directions,
    foreign_to_backends,
    imports_of_backends,
    foreign_to_suites,
    imports_of_test_aids,
    impurities,
    clock_reads,
]


def test_imports_point_one_way() -> None:
    assert wrong_directions(SOURCES) == []


def test_a_backend_imports_values_ports_and_its_own_folder() -> None:
    assert foreign_to_backends(SOURCES) == []


def test_the_front_door_alone_imports_backends_and_only_inside_functions() -> None:
    assert imports_of_backends(SOURCES) == []


def test_contract_suites_know_values_and_ports_alone() -> None:
    assert foreign_to_suites(SOURCES) == []


def test_nothing_of_the_library_needs_its_test_aids_or_a_test_runner() -> None:
    assert imports_of_test_aids(SOURCES) == []


def test_values_and_scheduling_are_pure() -> None:
    assert impurities(SOURCES) == []


def test_the_clock_is_read_in_one_place() -> None:
    assert clock_reads(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hodei_core.jobs", "from hodei_core.ports import Store"),
        ("hodei_core.jobs", "def f():\n    from hodei_core.runtime import host"),
        ("hodei_core.scheduling.index", "from hodei_core.ports.queue import JobQueue"),
        ("hodei_core.ports.store", "import hodei_core.runtime.host"),
        ("hodei_core.runtime.host", "from hodei_core.handle import JobHandle"),
        ("hodei_core.runtime.host", "from hodei_core import JobSpec"),
        ("hodei_core.hodei", "import hodei_core.cli"),
        ("hodei_core.hodei", "def f():\n    from hodei_core.blocking import Hodei"),
        ("hodei_core.handle", "import hodei_core.blocking.portal"),
        ("hodei_core.blocking.hodei", "from hodei_core.backends.memory import MemoryStore"),
        ("hodei_core.backends.local.session", "from hodei_core.runtime.run import Run"),
        ("hodei_core.backends.local.session", "from hodei_core.scheduling.needs import Needs"),
        ("hodei_core.backends.local.session", "from hodei_core.backends.memory import x"),
        ("hodei_core.hodei", "from hodei_core.backends.local import LocalProvider"),
        ("hodei_core.cli.program", "def f():\n    import hodei_core.backends.local"),
        ("hodei_core.testing.contracts.queue", "from hodei_core.runtime.host import Host"),
        ("hodei_core.testing.contracts.queue", "def f():\n    import pytest"),
        ("hodei_core.runtime.host", "from hodei_core.testing import FakeClock"),
        ("hodei_core.scheduling.index", "import time"),
        ("hodei_core.scheduling.index", "def f():\n    from anyio import lowlevel"),
        ("hodei_core.scheduling.index", "class A:\n    async def f(self): ..."),
        ("hodei_core.jobs", "import threading"),
        ("hodei_core.runtime.host", "from time import monotonic"),
        ("hodei_core.runtime.host", "from datetime import datetime\ndatetime.now()"),
    ],
)
def test_a_planted_fault_is_found(module: str, source: str) -> None:
    assert any(check({module: source}) for check in CHECKS)


def test_importing_the_library_loads_no_backend_and_no_library_of_one() -> None:
    script = """
import sys
import hodei_core, hodei_core.ports, hodei_core.testing
heavy = ("docker", "aiosqlite", "sqlite3", "click", "pytest", "trio", "hodei_core.backends.",
    "hodei_core.blocking.")
print([name for name in sys.modules if (name + ".").startswith(heavy)])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
