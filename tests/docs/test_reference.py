"""The reference has every public name, once."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Sequence
from types import ModuleType

import pytest

from tests.docs.pages import DOCS

MODULES = [
    "hodei_core",
    "hodei_core.blocking",
    "hodei_core.ports",
    "hodei_core.testing",
    "hodei_core.backends.local",
    "hodei_core.backends.memory",
    "hodei_core.backends.sqlite",
]
DIRECTIVES = [
    name
    for page in sorted((DOCS / "reference").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]


def value_of(directive: str) -> object:
    """Return what a directive names: a module, or something in one."""
    module, _, name = directive.rpartition(".")
    held = vars(importlib.import_module(module))
    return held[name] if name in held else importlib.import_module(directive)


def missing(module: str, directives: Sequence[str]) -> list[str]:
    """Return the public names of a module that no directive shows, alone or with a module."""
    if module in directives:
        return []
    held = vars(importlib.import_module(module))
    values = [value_of(directive) for directive in directives]
    modules = {value.__name__ for value in values if isinstance(value, ModuleType)}
    return [
        name
        for name in held["__all__"]
        if not any(value is held[name] for value in values)
        and getattr(held[name], "__module__", None) not in modules
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_on_a_page(module: str) -> None:
    assert missing(module, DIRECTIVES) == []


def test_nothing_is_shown_twice() -> None:
    assert [name for name, count in Counter(DIRECTIVES).items() if count > 1] == []


def test_every_directive_leads_to_something() -> None:
    for directive in DIRECTIVES:
        value_of(directive)


def test_a_name_that_is_missing_is_found() -> None:
    without_stats = [name for name in DIRECTIVES if name != "hodei_core.Stats"]
    assert missing("hodei_core", without_stats) == ["Stats"]
    without_errors = [name for name in DIRECTIVES if name != "hodei_core.errors"]
    assert "InvalidJobError" in missing("hodei_core", without_errors)
    assert missing("hodei_core.ports", []) != []
