"""The table that people read."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.figures import Figure, Judged

_HEADINGS = ("figure", "floor", "ours", "judged", "first", "end", "reached")


def table(figures: Iterable[Figure]) -> str:
    """Return figures as lines of text, one a figure, and their notes below."""
    figures = list(figures)
    rows = [_HEADINGS, *map(_cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    lines.append("")
    for figure in figures:
        note = f"; {figure.note}" if figure.note else ""
        lines.append(f"{figure.name}: {figure.what}, beside {figure.floor_is}{note}")
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, ...]:
    unit = figure.unit
    return (
        figure.name,
        "-" if figure.floor is None else f"{number(figure.floor)} {unit}",
        f"{number(figure.ours)} {unit}",
        _judged(figure, figure.value),
        "-" if figure.first is None else _judged(figure, figure.first),
        "-" if figure.end is None else _judged(figure, figure.end),
        figure.reached,
    )


def _judged(figure: Figure, value: float) -> str:
    if figure.judged is Judged.RATIO:
        return f"{value:.2f} x"
    if figure.judged is Judged.DIFFERENCE:
        sign = "+" if value >= 0 else "-"
        return f"{sign} {number(abs(value))} {figure.unit}"
    return f"{number(value)} {figure.unit}"


def number(value: float) -> str:
    """Return a number with three digits that count, in full if it is large."""
    size = abs(value)
    if size >= 1_000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if size >= 0.001 or not value else f"{value:.1g}"
