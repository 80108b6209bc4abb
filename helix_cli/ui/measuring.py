"""What a measurement shows: progress with the figures so far on stderr, tables with small bars on stdout."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from helix_cli.ui.console import Screen, visible
from helix_cli.ui.tables import bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

NAMING = 2
"""Columns that say what a row is about."""
PIPE_WIDTH = 1000


class MeasureProgress:
    """How many of `total` runs are done, the time left, and a line of figures."""

    def __init__(self, total: int, screen: Screen | None = None) -> None:
        self._screen = screen or Screen.detect()
        self._total = total
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> MeasureProgress:
        """Show the bar, where somebody can see it."""
        if self._screen.is_lively:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.completed}/{task.total}"),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=self._screen.rich_err(),
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._progress.add_task("warming up", total=self._total)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state standing."""
        if self._progress is not None:
            self._progress.stop()

    def advance(self, line: str) -> None:
        """One run more; `line` says how it stands."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=1, description=line)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], shares: Sequence[float] = ()) -> None:
    """A table on stdout; `shares`, one a row, become bars behind it.

    A pipe gets lines as long as they need to be: whoever reads them may not be a terminal of 80 columns.
    """
    from rich.table import Table

    screen = Screen.detect()
    console = screen.rich_out()
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), show_edge=False)
    for column in (*columns, *([""] if shares else [])):
        # What a row is about stays whole; figures wrap where a terminal is narrow.
        table.add_column(visible(column), overflow="fold", no_wrap=column in columns[:NAMING])
    for place, row in enumerate(rows):
        cells = [visible(cell) for cell in row]
        table.add_row(*cells, *([bar(shares[place], console.options.ascii_only)] if shares else []))
    if not screen.out_is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)
    screen.write("\n")


def show_lines(lines: Sequence[str]) -> None:
    """Sentences on stdout."""
    Screen.detect().write("".join(f"{line}\n" for line in lines) + "\n")
