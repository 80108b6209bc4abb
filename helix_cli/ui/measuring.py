"""What a measurement shows: progress with the figures so far on stderr, tables with small bars on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from helix_cli.ui.console import Screen, visible
from helix_cli.ui.progress_bar import ProgressBar
from helix_cli.ui.tables import bar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

NAMING = 2
"""Columns that say what a row is about."""
GAP = 2
"""Spaces behind each column."""


class MeasureProgress(ProgressBar):
    """How many of `total` runs are done, the time left, and a line of figures."""

    def __init__(self, total: int, screen: Screen | None = None) -> None:
        super().__init__(total, _columns, screen)

    def __enter__(self) -> Self:
        """Show the bar; the first thing to happen is a warm-up."""
        super().__enter__()
        self.update(line="warming up")
        return self

    def advance(self, line: str) -> None:
        """One run more; `line` says how it stands."""
        self.update(1, line)


def _columns() -> list[ProgressColumn]:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    done, line = TextColumn("{task.completed}/{task.total}"), TextColumn("{task.description}", markup=False)
    return [done, BarColumn(), TimeRemainingColumn(), line]


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], shares: Sequence[float] = ()) -> None:
    """A table on stdout; `shares`, one a row, become bars behind it where there is room.

    A terminal too narrow for whole words gets a list for each row: half a number is a wrong number.
    """
    screen = Screen.detect()
    console = screen.rich_tables()
    lines = [[visible(cell) for cell in line] for line in (columns, *rows)]
    if shares:
        bars = ["", *(bar(share, console.options.ascii_only) for share in shares)]
        barred = [[*line, drawn] for line, drawn in zip(lines, bars, strict=True)]
        lines = barred if sum(width + GAP for width in _widest(barred)) <= console.width else lines
    # A title of the table itself would be broken where the table is narrow.
    console.print(visible(title), style="table.title")
    widths = fitting_widths(lines, console.width)
    if widths is None:
        _print_lists(console, lines)
    else:
        _print_table(console, lines, widths)
    screen.write("\n")


def fitting_widths(lines: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """How wide each column of text is, so that all fit into `room` and no word is broken; None where they cannot.

    What a row is about stays whole, too.
    """
    widths = _widest(lines)
    words = _widest([[max(cell.split(), key=len, default="") for cell in line] for line in lines])
    least = [*widths[:NAMING], *words[NAMING:]]
    while sum(width + GAP for width in widths) > room:
        places = [place for place, width in enumerate(widths) if width > least[place]]
        if not places:
            return None
        widths[max(places, key=lambda place: widths[place])] -= 1
    return widths


def _widest(lines: Sequence[Sequence[str]]) -> list[int]:
    """The widest cell of each column."""
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _print_table(console: Console, lines: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, GAP, 0, 0), show_edge=False)
    for column, width in zip(lines[0], widths, strict=True):
        table.add_column(column, width=width)
    for cells in lines[1:]:
        table.add_row(*cells)
    console.print(table)


def _print_lists(console: Console, lines: Sequence[Sequence[str]]) -> None:
    columns, *rows = lines
    for cells in rows:
        console.print(", ".join(cells[:NAMING]), style="table.header")
        for column, cell in zip(columns[NAMING:], cells[NAMING:], strict=True):
            if cell:
                console.print(f"  {column}: {cell}" if column else f"  {cell}")


def show_lines(lines: Sequence[str]) -> None:
    """Sentences on stdout."""
    Screen.detect().write("".join(f"{line}\n" for line in lines) + "\n")
