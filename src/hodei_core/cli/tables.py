"""Tables for people: they fit the terminal, and are cut nowhere else."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hodei_core.cli.console import ByteWriter
from hodei_core.states import JobState
from hodei_core.workers import WorkerState

_UNCUT = 1_000_000
_SHORT_ID = 8
_GAP = 2
_LEAST_CUT = 4  # of a column that is cut, however narrow the terminal
_STYLES: dict[JobState | WorkerState, str] = {
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.TIMED_OUT: "red",
    JobState.CANCELLED: "yellow",
    WorkerState.READY: "green",
    WorkerState.BUSY: "cyan",
    WorkerState.DRAINING: "yellow",
}


@attrs.frozen
class Column:
    """A column of a table."""

    title: str
    right: bool = False
    """Whether its cells are aligned to the right, as numbers are."""

    least: int = 0
    """How wide the terminal must be for the column to be shown."""

    cut: bool = False
    """Whether its cells may be cut to fit the terminal."""


Cell = str | JobState | WorkerState


class Paper:
    """What tables are printed on: a terminal of some width, or something endless."""

    def __init__(self, out: ByteWriter) -> None:
        self.width: int | None = shutil.get_terminal_size().columns if out.terminal else None
        self._colours = (
            out.terminal
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM", "dumb") != "dumb"
        )

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> str:
        """Return a table as text; columns for which there is no room are left out."""
        width = _UNCUT if self.width is None else self.width
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        shown = [number for number, column in enumerate(columns) if column.least <= width]
        widths = _widths([columns[number] for number in shown], rows, shown, width)
        for number, cells in zip(shown, widths, strict=True):
            column = columns[number]
            table.add_column(
                Text(column.title),
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis",
                width=cells,
            )
        for row in rows:
            table.add_row(*[_text(row[number]) for number in shown])
        return self._printed(table, width)

    def job_id(self, job_id: str) -> str:
        """Return an id as a table shows it: its beginning on a terminal."""
        return job_id if self.width is None else job_id[:_SHORT_ID]

    def _printed(self, table: Table, width: int) -> str:
        file = io.StringIO()
        console = Console(
            file=file,
            width=width,
            force_terminal=self._colours,
            color_system="standard" if self._colours else None,
            no_color=not self._colours,
            highlight=False,
            legacy_windows=False,
        )
        console.print(table)
        return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], shown: Sequence[int], width: int
) -> list[int]:
    """Return how wide each column is: those that may be cut share what the others leave."""
    widths = [
        max([len(column.title), *(_text(row[number]).cell_len for row in rows)])
        for column, number in zip(columns, shown, strict=True)
    ]
    left = width - _GAP * (len(columns) - 1)
    left -= sum(w for w, column in zip(widths, columns, strict=True) if not column.cut)
    cut = sorted((w, place) for place, w in enumerate(widths) if columns[place].cut)
    for rank, (wanted, place) in enumerate(cut):
        widths[place] = max(min(wanted, left // (len(cut) - rank)), _LEAST_CUT)
        left -= widths[place]
    return widths


def _text(cell: Cell) -> Text:
    if isinstance(cell, str):
        return Text(visible(cell))
    return Text(cell.name, style=_STYLES.get(cell, ""))


def visible(text: str) -> str:
    """Return a text in one line, with escapes for what a terminal would not show or obey."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def span(length: timedelta) -> str:
    """Return a span in a few characters: 0.25s, 12.3s, 3m20s, 2h05m, 4d02h."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for unit, size, part, below in _UNITS:
        if whole < below:
            return f"{whole // size}{unit}{whole % size // (size // part):02d}{_LOWER[unit]}"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


_UNITS = (("m", 60, 60, 3600), ("h", 3600, 60, 86400))
_LOWER = {"m": "s", "h": "m"}


def age(at: datetime, now: datetime) -> str:
    """Return how long ago an instant was, in its largest unit: 5s, 3m, 2h, 4d."""
    seconds = max(int((now - at).total_seconds()), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def instant(at: datetime, now: datetime) -> str:
    """Return an instant in local time, and how long ago it was, or how far off it is."""
    local = f"{at.astimezone():%Y-%m-%d %H:%M:%S}"
    return f"{local}, {age(at, now)} ago" if at <= now else f"{local}, in {age(now, at)}"
