"""What `helix validate` shows: progress by group on stderr, the table of checks and the verdict on stdout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from helix_cli.ui.console import Screen, notice, visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Row = tuple[str, str, str, str]
"""(group, id, result, reason)."""

STYLES = {"pass": "green", "tie": "yellow", "fail": "bold red", "skipped": "dim"}
PIPE_WIDTH = 1000


class ValidationProgress:
    """Which check runs, how many are done, and a line for every group that is complete."""

    def __init__(self, total: int, screen: Screen | None = None) -> None:
        """`total` checks, shown on `screen` or on this process's stderr."""
        self._screen = screen or Screen.detect()
        self._total = total
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._group: str | None = None
        self._results: Counter[str] = Counter()

    def __enter__(self) -> ValidationProgress:
        """Show the bar, where somebody can see it."""
        if self._screen.is_lively:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("{task.completed}/{task.total}"),
                BarColumn(bar_width=20),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
                console=self._screen.rich_err(),
                redirect_stdout=False,
                redirect_stderr=False,
                transient=True,
            )
            self._task = self._progress.add_task("", total=self._total)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last group's line."""
        self._end_group()
        if self._progress is not None:
            self._progress.stop()

    def begin(self, group: str, id: str) -> None:
        """This check runs now."""
        if group != self._group:
            self._end_group()
            self._group = group
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=id)

    def end(self, result: str) -> None:
        """It has ended so."""
        self._results[result] += 1
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)

    def _end_group(self) -> None:
        if self._group is None or not self._results:
            return
        line = f"{self._group}: {counted(self._results)}"
        if self._progress is not None:
            self._progress.console.print(line)
        else:
            notice(line)
        self._results.clear()


def counted(results: Counter[str]) -> str:
    """How many of each result, those that occur."""
    return ", ".join(f"{results[name]} {name}" for name in STYLES if results[name])


def show_validation(rows: Sequence[Row], verdict: str) -> None:
    """The table of all checks, and the verdict in one line.

    A pipe gets lines as long as they need to be: whoever reads them may not be a terminal of 80 columns.
    """
    from rich.table import Table
    from rich.text import Text

    screen = Screen.detect()
    console = screen.rich_out()
    if not screen.out_is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("result", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("evidence", overflow="fold")
    for _, id, result, reason in rows:
        table.add_row(Text(result, style=STYLES[result]), visible(id), visible(reason))
    console.print(table)
    screen.write("\n")
    show_verdict(verdict)


def show_verdict(verdict: str) -> None:
    """One line on stdout."""
    Screen.detect().write(f"{visible(verdict)}\n")
