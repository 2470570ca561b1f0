"""How a program names a store in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hodei_core import Hodei
from hodei_core.backends.sqlite import SqliteStore


def path_of(store: object) -> Path:
    hodei = Hodei(store)  # type: ignore[arg-type]
    made = hodei._host.store
    assert isinstance(made, SqliteStore)
    return made.path


@pytest.mark.parametrize(
    ("store", "path"),
    [
        ("jobs.db", "jobs.db"),
        ("a folder/jobs.db", "a folder/jobs.db"),
        (Path("jobs.sqlite"), "jobs.sqlite"),
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:////srv/jobs.db", "/srv/jobs.db"),
    ],
)
def test_text_or_a_path_names_a_file(store: str | os.PathLike[str], path: str) -> None:
    assert path_of(store) == Path(path)


@pytest.mark.parametrize("text", ["", "a\0b", "sqlite:///", "sqlite://x", "postgres:///x"])
def test_text_that_names_no_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="store"):
        Hodei(text)


@pytest.mark.parametrize("value", [3, b"jobs.db"], ids=str)
def test_what_is_neither_text_nor_a_path_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="store"):
        path_of(value)
