"""Parts of pages that are made from the code. `python -m tests.docs.tables` writes them anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hodei_core.states import TRANSITIONS, Reason
from tests.docs.pages import DOCS, section

CONCEPTS = DOCS / "concepts.md"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def transitions() -> str:
    """Return the table of every change of state."""
    order = [None, *Reason]
    return table(
        ("from", "to", "by whom", "when", "with one of the reasons"),
        (
            (
                row.source.name,
                row.target.name,
                row.mover,
                row.event,
                ", ".join("none" if r is None else r.name for r in order if r in row.reasons),
            )
            for row in TRANSITIONS
        ),
    )


def deadlines() -> str:
    """Return the table of what bounds the time in each state."""
    return table(
        ("state", "bounded by"),
        dict.fromkeys((row.source.name, row.deadline) for row in TRANSITIONS),
    )


MADE: dict[str, Callable[[], str]] = {"transitions": transitions, "deadlines": deadlines}


def main() -> None:
    for name, make in MADE.items():
        text = CONCEPTS.read_text(encoding="utf-8")
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        text = text.replace(begin + section(CONCEPTS, name) + end, f"{begin}\n{make()}\n{end}")
        CONCEPTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
