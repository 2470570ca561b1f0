"""The Python in README and docs runs, and prints what the page says."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import anyio
import pytest

from hodei_core import Hodei
from hodei_core.backends.local import LocalProvider
from tests.docs.pages import DOCS, PAGES, ROOT, Kind, Snippet, snippets

LIMIT_SECONDS = 40
SNIPPETS = [snippet for page in PAGES for snippet in snippets(page)]

# What differs from run to run, and what it is taken for.
CHANGING = [
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "JOB"),
    (r"\b([a-z]+)-[0-9a-f]{12}\b", r"\1-WORKER"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00", "INSTANT"),
    (r"\b\d+:\d\d:\d\d(\.\d+)?\b", "SPAN"),
    (r"\b\d+\.\d+ s\b", "N s"),
]


def pages_with(*kinds: Kind) -> list[Any]:
    """Return the pages that hold snippets of some kinds, named for the report."""
    pages = dict.fromkeys(snippet.page for snippet in SNIPPETS if snippet.kind in kinds)
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


def of_kind(kind: Kind) -> list[Any]:
    return [pytest.param(s, id=s.place) for s in SNIPPETS if s.kind is kind]


def quick(source: str) -> str:
    """Return a snippet whose jobs sleep for a tenth of the few seconds that the page has."""
    return re.sub(r"\bsleep (\d)\b", r"sleep 0.\1", source)


def compiled(snippet: Snippet) -> CodeType:
    source = "\n" * (snippet.line - 1) + quick(snippet.source)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(source, str(snippet.page), "exec", flags, dont_inherit=True)
    return code


async def run(snippet: Snippet, names: dict[str, object]) -> str:
    """Run a snippet among the names of those before it; return what it printed."""
    code = compiled(snippet)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        done = eval(code, names)
        if code.co_flags & inspect.CO_COROUTINE:
            await done
    return printed.getvalue()


def steady(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text.strip()


def check(snippet: Snippet, printed: str) -> None:
    """Hold that a snippet printed what its page says; `...` there stands for anything."""
    if snippet.printed is None:
        return
    wanted = ".*".join(map(re.escape, steady(snippet.printed).split("...")))
    assert re.fullmatch(wanted, steady(printed), re.DOTALL), (
        f"{snippet.place} printed:\n{printed}\nand the page says:\n{snippet.printed}"
    )


@pytest.mark.parametrize("page", pages_with(Kind.FRAGMENT))
async def test_the_fragments_of_a_page_run_one_after_the_other(page: Path) -> None:
    with anyio.fail_after(LIMIT_SECONDS):
        async with Hodei(providers=[LocalProvider(slots=4)], shutdown_timeout=0) as hodei:
            names: dict[str, object] = {"__name__": "__page__", "hodei": hodei}
            for snippet in snippets(page):
                if snippet.kind is Kind.FRAGMENT:
                    check(snippet, await run(snippet, names))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("page", pages_with(Kind.NOTEBOOK))
async def test_the_cells_of_a_page_run_in_a_notebook(page: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    with anyio.fail_after(LIMIT_SECONDS):
        for snippet in snippets(page):
            if snippet.kind is Kind.NOTEBOOK:
                check(snippet, await run(snippet, names))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is a git repository with one commit."""
    folder = tmp_path_factory.mktemp("repository")
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(
        ["git", *who, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True
    )
    return folder


@pytest.mark.parametrize("snippet", of_kind(Kind.PROGRAM))
def test_a_program_runs(snippet: Snippet, tmp_path: Path, repository: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(quick(snippet.source), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), snippet.place
    check(snippet, done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("snippet", of_kind(Kind.PYTEST))
def test_a_file_of_tests_passes(snippet: Snippet, tmp_path: Path) -> None:
    file = tmp_path / "test_snippet.py"
    file.write_text(snippet.source, encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-W", "error"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-o", "anyio_mode=auto", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        env={name: value for name, value in os.environ.items() if "PYTEST" not in name},
    )
    assert done.returncode == 0, f"{snippet.place}\n{done.stdout}{done.stderr}"
    assert re.search(r"\b\d+ passed", done.stdout)


@pytest.mark.parametrize("snippet", of_kind(Kind.SKIP))
def test_a_snippet_that_is_not_run_says_why_and_is_python(snippet: Snippet) -> None:
    assert snippet.reason
    compiled(snippet)


def test_there_are_snippets() -> None:
    """Else the tests above hold nothing."""
    kinds = {snippet.kind for snippet in SNIPPETS}
    assert kinds >= {Kind.FRAGMENT, Kind.NOTEBOOK, Kind.PROGRAM, Kind.PYTEST}
    assert {ROOT / "README.md", DOCS / "quickstart.md"} <= {snippet.page for snippet in SNIPPETS}


async def test_a_snippet_that_does_not_print_what_its_page_says_is_found(tmp_path: Path) -> None:
    page = ROOT / "planted.md"
    snippet = Snippet(page, 1, Kind.FRAGMENT, None, "print('one')", printed="one\n")
    check(snippet, await run(snippet, {}))
    with pytest.raises(AssertionError, match="the page says"):
        check(snippet, "two")
    wrong = Snippet(page, 3, Kind.FRAGMENT, None, "await undefined()", printed=None)
    with pytest.raises(NameError):
        await run(wrong, {})
