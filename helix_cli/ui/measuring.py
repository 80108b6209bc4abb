"""What a measurement shows: progress with the figures so far on stderr, tables with small bars on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from helix_cli.ui.console import Screen, visible
from helix_cli.ui.progress_bar import ProgressBar
from helix_cli.ui.tables import bar

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

NAMING = 2
"""Columns that say what a row is about."""
PIPE_WIDTH = 1000


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
    """A table on stdout; `shares`, one a row, become bars behind it.

    A pipe gets lines as long as they need to be: whoever reads them may not be a terminal of 80 columns.
    """
    from rich.table import Table

    screen = Screen.detect()
    console = screen.rich_out()
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for column in (*columns, *([""] if shares else [])):
        # What a row is about stays whole; figures wrap where a terminal is narrow.
        table.add_column(visible(column), overflow="fold", no_wrap=column in columns[:NAMING])
    for place, row in enumerate(rows):
        cells = [visible(cell) for cell in row]
        table.add_row(*cells, *([bar(shares[place], console.options.ascii_only)] if shares else []))
    if not screen.out_is_terminal:
        console.width = PIPE_WIDTH
    # A title of the table itself would be broken where the table is narrow.
    console.print(visible(title), style="table.title")
    console.print(table)
    screen.write("\n")


def show_lines(lines: Sequence[str]) -> None:
    """Sentences on stdout."""
    Screen.detect().write("".join(f"{line}\n" for line in lines) + "\n")
