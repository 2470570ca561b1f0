"""The pages of the documentation, and the snippets that they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^( *)(`{3,})(\w*).*$")
_MARKER = re.compile(r"^ *<!-- snippet: (\w+)(?:, (.+))? -->$")
_RUNS_A_LOOP = re.compile(r"^(?: {4})?(?:anyio|asyncio|trio)\.run\(", re.MULTILINE)


class Kind(Enum):
    """How a snippet is run; a marker above it says so where its text does not."""

    FRAGMENT = "fragment"
    """With the others of its page, one after the other, where `hodei` is open."""

    NOTEBOOK = "notebook"
    """The same, but nothing is open and the event loop is that of asyncio."""

    PROGRAM = "program"
    """As a program of its own."""

    PYTEST = "pytest"
    """As a file of tests."""

    SKIP = "skip"
    """Not at all; the marker says why."""


@attrs.frozen
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int
    """The line of the page on which its text begins."""

    marker: str | None
    reason: str | None
    touches: bool
    """Whether nothing but empty lines is between it and the block before it."""


@attrs.frozen
class Snippet:
    """A block of Python, and what the page says that it prints."""

    page: Path
    line: int
    kind: Kind
    reason: str | None
    source: str
    printed: str | None

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Return the fenced blocks of a page."""
    above: list[str] = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            above.append(line)
            continue
        indent, ticks, language = fence.groups()
        body = []
        for _, text in lines:
            if text.strip() == ticks:
                break
            body.append(text.removeprefix(indent))
        marker = _MARKER.match(above[-1]) if above else None
        yield Block(
            language=language,
            text="".join(f"{text}\n" for text in body),
            line=number + 1,
            marker=marker.group(1) if marker else None,
            reason=marker.group(2) if marker else None,
            touches=not any(above),
        )
        above = []


def snippets(page: Path) -> list[Snippet]:
    """Return the Python of a page, each with the text block that follows it at once."""
    found: list[Snippet] = []
    open_for_output = False
    for block in blocks(page):
        if block.language == "python":
            found.append(
                Snippet(page, block.line, _kind(block), block.reason, block.text, printed=None)
            )
        elif block.language == "text" and block.touches and open_for_output:
            found[-1] = attrs.evolve(found[-1], printed=block.text)
        open_for_output = block.language == "python"
    return found


def _kind(block: Block) -> Kind:
    if block.marker is not None:
        return Kind(block.marker)
    return Kind.PROGRAM if _RUNS_A_LOOP.search(block.text) else Kind.FRAGMENT


def section(page: Path, name: str) -> str:
    """Return what a page holds between `<!-- name -->` and `<!-- /name -->`."""
    text = page.read_text(encoding="utf-8")
    _, begin, rest = text.partition(f"<!-- {name} -->\n")
    inside, end, _ = rest.partition(f"<!-- /{name} -->")
    assert begin, f"{page.name} has no section {name!r}"
    assert end, f"the section {name!r} of {page.name} has no end"
    return inside
