"""The blocking classes have the methods and parameters of the async ones, and no others."""

from __future__ import annotations

import ast
import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType

import pytest
from typing_extensions import get_overloads

import hodei_core
from hodei_core import blocking

PAIRS: list[tuple[type, type]] = [
    (hodei_core.Hodei, blocking.Hodei),
    (hodei_core.JobHandle, blocking.JobHandle),
    (hodei_core.LogStream, blocking.LogStream),
    (hodei_core.EventStream, blocking.EventStream),
]
NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
}
TYPES: dict[object, object] = {**dict(PAIRS), AsyncIterator: Iterator}

WITHOUT_TWIN: set[tuple[type, str]] = {
    (hodei_core.JobHandle, "__await__"),  # `await handle` is `handle.wait()`
    (hodei_core.EventStream, "offer"),  # it is the bus that calls these three
    (hodei_core.EventStream, "skip"),
    (hodei_core.EventStream, "end"),
}

NOT_FOR_USERS: set[tuple[type, str]] = {
    (cls, "__init__")
    for cls in (hodei_core.JobHandle, hodei_core.LogStream, hodei_core.EventStream)
}
NEVER_SWALLOWS: dict[tuple[type, str], str] = {(hodei_core.Hodei, "__aexit__"): "None"}
"""The async one ends its body by a cancellation, which it swallows; here nothing cancels."""

MACHINERY = {"__module__", "__doc__", "__dict__", "__weakref__", "__annotations__"} | {
    name for name in vars(typing.Generic) if name != "__init__"
}


def methods(cls: type) -> dict[str, Callable[..., object]]:
    """Return what a class defines that users may call or the language calls for them."""
    return {
        name: value
        for name, value in vars(cls).items()
        if inspect.isfunction(value)
        and name not in MACHINERY
        and (not name.startswith("_") or name.endswith("__"))
    }


def named(annotation: object, module: ModuleType) -> list[object]:
    """Return what the names in an annotation are, in the module that has it."""
    found = []
    if annotation is inspect.Parameter.empty:  # self
        return []
    for node in ast.walk(ast.parse(str(annotation), mode="eval")):
        if isinstance(node, ast.Name):
            value = vars(module).get(node.id, node.id)
            found.append(node.id if isinstance(value, typing.TypeVar) else value)
    return found


def differences_of(
    here: Callable[..., object], there: Callable[..., object], returns: str | None = None
) -> list[str]:
    """Return how a blocking function is not what the async one asks for."""
    ours, theirs = inspect.signature(here), inspect.signature(there)
    modules = inspect.getmodule(here), inspect.getmodule(there)
    assert modules[0] is not None
    assert modules[1] is not None
    name = here.__qualname__
    found = []
    if inspect.iscoroutinefunction(here):
        found.append(f"{name} is async")
    shapes = [
        [(each.name, each.kind, each.default) for each in signature.parameters.values()]
        for signature in (ours, theirs)
    ]
    if shapes[0] != shapes[1]:
        found.append(f"{name} has other parameters: {ours}, and the twin has {theirs}")
    annotations = [
        (each.annotation, ours.parameters[each.name].annotation)
        for each in theirs.parameters.values()
        if each.name in ours.parameters
    ]
    annotations.append((returns or theirs.return_annotation, ours.return_annotation))
    for wanted, given in annotations:
        text = str(wanted).replace("AsyncIterator", "Iterator")
        values = [TYPES.get(value, value) for value in named(wanted, modules[1])]
        if text != str(given) or values != named(given, modules[0]):
            found.append(f"{name}: {given!r} is not {text!r}")
    return found


def differences(there: type, here: type) -> list[str]:
    """Return how a blocking class is not the twin of an async one."""
    theirs = {
        name: method for name, method in methods(there).items() if (there, name) not in WITHOUT_TWIN
    }
    ours = methods(here)
    wanted = {NAMES.get(name, name) for name in theirs}
    found = [f"{here.__name__} lacks {name}" for name in sorted(wanted - ours.keys())]
    found += [f"{here.__name__} alone has {name}" for name in sorted(ours.keys() - wanted)]
    for name, method in theirs.items():
        twin = ours.get(NAMES.get(name, name))
        if twin is None or (there, name) in NOT_FOR_USERS:
            continue
        found += differences_of(twin, method, NEVER_SWALLOWS.get((there, name)))
        if sys.version_info >= (3, 11):
            overloads = get_overloads(method)
            given = get_overloads(twin)
            if len(overloads) != len(given):
                found.append(f"{name} has {len(given)} overloads, and the twin {len(overloads)}")
            for one, other in zip(given, overloads, strict=False):
                found += differences_of(one, other)
    return found


@pytest.mark.parametrize(("there", "here"), PAIRS)
def test_the_blocking_class_has_what_the_async_one_has(there: type, here: type) -> None:
    assert methods(there)
    assert differences(there, here) == []


@pytest.mark.parametrize(("there", "here"), PAIRS)
def test_every_docstring_names_its_twin(there: type, here: type) -> None:
    twin = f"`hodei_core.{there.__name__}"
    assert f"{twin}`" in (here.__doc__ or "")
    theirs = {NAMES.get(name, name): name for name in methods(there)}
    for name, method in methods(here).items():
        if not name.startswith("_"):
            text = method.__doc__ or ""
            assert f"{twin}.{theirs[name]}`" in text.splitlines()[0], method
            assert len(text.splitlines()) < 9, method


def test_nothing_else_is_public() -> None:
    assert blocking.__all__ == sorted(here.__name__ for _, here in PAIRS)


async def added(self: object) -> None: ...


async def run(self: object, command: str, /, *, check: bool = False, more: int = 0) -> None: ...


async def get_job(self: object, job_id: str) -> str:
    return job_id


async def wait(self: object, timeout: float | None = 1.0) -> None: ...


async def submit_many(self: object, jobs: list[str]) -> None: ...


@pytest.mark.parametrize(
    ("there", "method", "told"),
    [
        (hodei_core.Hodei, added, "Hodei lacks added"),
        (hodei_core.Hodei, run, "Hodei.run has other parameters"),
        (hodei_core.Hodei, get_job, "'Job' is not 'str'"),
        (hodei_core.Hodei, submit_many, "Hodei.submit_many: "),
        (hodei_core.JobHandle, wait, "JobHandle.wait has other parameters"),
        (hodei_core.LogStream, added, "LogStream lacks added"),
    ],
)
def test_a_change_of_the_async_class_alone_is_found(
    there: type, method: Callable[..., object], told: str
) -> None:
    changed = type(there.__name__, (), {**methods(there), method.__name__: method})
    found = differences(changed, dict(PAIRS)[there])
    assert any(told in each for each in found), found


def test_a_handle_of_the_wrong_world_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are the same in both."""
    module = inspect.getmodule(blocking.Hodei)
    assert module is not None
    monkeypatch.setattr(module, "JobHandle", hodei_core.JobHandle)
    assert "Hodei.handle: 'JobHandle' is not 'JobHandle'" in differences(*PAIRS[0])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="overloads are kept from 3.11 on")
def test_overloads_are_compared() -> None:
    assert len(get_overloads(hodei_core.Hodei.run)) == 2
