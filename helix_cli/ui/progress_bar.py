"""The bar that every progress display is made of: on stderr, and only where somebody can see it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from helix_cli.ui.console import Screen

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

Columns = Callable[[], "list[ProgressColumn]"]
"""Makes the columns; called when the bar is shown, because Rich takes its time to import."""


class ProgressBar:
    """`total` steps on `screen`, or on this process's stderr; nothing where that is not a lively terminal."""

    def __init__(
        self,
        total: int,
        columns: Columns,
        screen: Screen | None = None,
        *,
        transient: bool = False,
        expand: bool = False,
    ) -> None:
        """`transient`: the bar goes away at the end; `expand`: it is as wide as the terminal."""
        self._screen = screen or Screen.detect()
        self._total, self._columns, self._transient, self._expand = total, columns, transient, expand
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @property
    def is_shown(self) -> bool:
        """Whether there is a bar."""
        return self._progress is not None

    def __enter__(self) -> Self:
        """Show the bar, where somebody can see it."""
        if self._screen.is_lively:
            from rich.progress import Progress

            # Rich would send what others print to stdout to its own console, which is stderr.
            self._progress = Progress(
                *self._columns(),
                console=self._screen.rich_err(),
                redirect_stdout=False,
                redirect_stderr=False,
                transient=self._transient,
                expand=self._expand,
            )
            self._task = self._progress.add_task("", total=self._total)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state standing, unless it is transient."""
        if self._progress is not None:
            self._progress.stop()

    def update(self, steps: int = 0, line: str | None = None) -> None:
        """So many steps further; `line` replaces the words beside the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=steps, description=line)

    def print(self, line: str) -> None:
        """A line above the bar; there must be one."""
        assert self._progress is not None
        self._progress.console.print(line)
