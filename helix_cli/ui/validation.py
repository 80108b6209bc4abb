"""What `helix validate` shows: progress by group on stderr, the table of checks and the verdict on stdout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from helix_cli.ui.console import Screen, notice, visible
from helix_cli.ui.progress_bar import ProgressBar

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Row = tuple[str, str, str, str]
"""(group, id, result, reason)."""

STYLES = {"pass": "green", "tie": "yellow", "fail": "bold red", "skipped": "dim"}
LEAST_EVIDENCE = 30
"""Columns below which evidence does not stand beside the name of its check."""


class ValidationProgress(ProgressBar):
    """Which check runs, how many are done, and a line for every group that is complete."""

    def __init__(self, total: int, screen: Screen | None = None) -> None:
        """`total` checks, shown on `screen` or on this process's stderr."""
        super().__init__(total, _columns, screen, transient=True)
        self._group: str | None = None
        self._results: Counter[str] = Counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last group's line."""
        self._end_group()
        super().__exit__(kind, error, trace)

    def begin(self, group: str, id: str) -> None:
        """This check runs now."""
        if group != self._group:
            self._end_group()
            self._group = group
        self.update(line=id)

    def end(self, result: str) -> None:
        """It has ended so."""
        self._results[result] += 1
        self.update(1)

    def _end_group(self) -> None:
        if self._group is None or not self._results:
            return
        line = f"{self._group}: {counted(self._results)}"
        if self.is_shown:
            self.print(line)
        else:
            notice(line)
        self._results.clear()


def _columns() -> list[ProgressColumn]:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    done, line = TextColumn("{task.completed}/{task.total}"), TextColumn("{task.description}", markup=False)
    return [done, BarColumn(bar_width=20), TimeElapsedColumn(), line]


def counted(results: Counter[str]) -> str:
    """How many of each result, those that occur."""
    return ", ".join(f"{results[name]} {name}" for name in STYLES if results[name])


def show_validation(rows: Sequence[Row], verdict: str) -> None:
    """The table of all checks, and the verdict in one line; in a narrow terminal evidence has lines of its own."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    screen = Screen.detect()
    console = screen.rich_tables()
    checks = [(Text(result, style=STYLES[result]), visible(id), visible(reason)) for _, id, result, reason in rows]
    if console.width < LEAST_EVIDENCE + max((len(result) + len(id) + 4 for result, id, _ in checks), default=0):
        for result, id, reason in checks:
            console.print(Text.assemble(result, f"  {id}"))
            console.print(Padding(reason, (0, 0, 0, 2)))
    else:
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        table.add_column("result", no_wrap=True)
        table.add_column("check", no_wrap=True)
        table.add_column("evidence", overflow="fold")
        for cells in checks:
            table.add_row(*cells)
        console.print(table)
    screen.write("\n")
    show_verdict(verdict)


def show_verdict(verdict: str) -> None:
    """One line on stdout."""
    Screen.detect().write(f"{visible(verdict)}\n")
