"""The page on SQLite tells the columns and defaults there are, and what its questions answer."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from hodei_core import Backoff, Hodei, JobStarted, Retention, RetryPolicy
from hodei_core.backends.local import LocalProvider
from hodei_core.backends.sqlite.pragmas import WAL_BYTES
from hodei_core.runtime.retaining import LOOK_SECONDS
from tests.docs.pages import DOCS, Block, blocks, section

PAGE = DOCS / "guides" / "sqlite.md"
QUESTIONS = [block for block in blocks(PAGE) if block.language == "console"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def filled(path: Path) -> AsyncIterator[None]:
    """Fill a file with what the answers on the page are of."""
    provider = LocalProvider(slots=1)
    async with Hodei(path, providers=[provider], shutdown_timeout=0) as hodei:
        await hodei.run("echo built; sleep 0.3", name="build")
        await hodei.run("echo 3 passed, 1 failed; exit 1", name="test")
        twice = RetryPolicy(max_attempts=2, backoff=Backoff(first=0.1))
        await hodei.run("exit 3", name="deploy", retry=twice)
        async with hodei.events(JobStarted) as started:
            await hodei.submit("exec sleep 30", name="report")
            await anext(aiter(started))
        await hodei.submit("make docs", name="docs")
        await hodei.submit("true", name="later", delay=3600, priority=5)
        await hodei.submit("make all", name="next", priority=2)
        yield


def question_and_answer(block: Block) -> tuple[str, str]:
    """Return the command, which ends with the line that closes its quotation, and what follows."""
    command, quote, answer = block.text.removeprefix("$ ").partition('"\n')
    return command + quote, answer


def answered(path: Path, command: str) -> list[list[str]]:
    """Return the cells that a question gives; with its head, if the page shows a table."""
    words = shlex.split(command)
    assert words[0] == "sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        cursor = connection.execute(words[-1])
        head = [[column[0] for column in cursor.description]] if "-box" in words else []
        return head + [["" if cell is None else str(cell) for cell in row] for row in cursor]


def cells(line: str) -> list[str]:
    separator = "│" if "│" in line else "|"
    return [cell.strip() for cell in line.strip("│ ").split(separator)]


def steady(table: list[list[str]]) -> list[list[str]]:
    """Return a table with what differs from run to run made equal: ids, spans, instants, order."""
    changing = [
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "INSTANT"),
        (r"-?\d+\.\d+", "N"),
        (r"^[0-9a-f]{8}$", "ID"),
    ]
    found = table
    for pattern, name in changing:
        found = [[re.sub(pattern, name, cell) for cell in row] for row in found]
    return sorted(found)


async def test_the_five_questions_have_the_answers_of_the_page(tmp_path: Path) -> None:
    assert len(QUESTIONS) == 5
    async with filled(tmp_path / "jobs.db"):
        for block in QUESTIONS:
            command, answer = question_and_answer(block)
            lines = [line for line in answer.splitlines() if not line.startswith(("┌", "├", "└"))]
            assert lines, block.text
            found = answered(tmp_path / "jobs.db", command)
            assert steady(found) == steady([cells(line) for line in lines]), block.text


async def test_the_table_of_views_is_that_of_the_file(tmp_path: Path) -> None:
    async with filled(tmp_path / "jobs.db"):
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
            found = {
                name: [row[1] for row in connection.execute(f"pragma table_info({name})")]
                for (name,) in connection.execute(
                    "select name from sqlite_master where type = 'view'"
                )
            }
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (.*) \|$", section(PAGE, "views"), re.MULTILINE)
    assert {name: re.findall(r"`(\w+)`", columns) for name, columns in rows} == found


def shown(default: Any) -> str:
    if isinstance(default, timedelta):
        return f"{default.days} days"
    return f"{default:,}" if default < 1 << 30 else f"{default >> 30} GiB"


def test_the_table_of_retention_is_that_of_the_class() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section(PAGE, "retention"), re.MULTILINE)
    default = Retention()
    assert rows == [
        (field.name, shown(getattr(default, field.name))) for field in attrs.fields(Retention)
    ]


def test_the_sizes_and_spans_that_the_page_names_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"cut to {WAL_BYTES >> 20} MiB" in text
    assert f"every {LOOK_SECONDS:g} s" in text
