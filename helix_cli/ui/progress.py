"""Signs of life on stderr: a bar for a batch, a spinner for a long wait. Off a terminal there is nothing to see."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from helix_cli.core import Event, TextEvent
from helix_cli.stats import ratio
from helix_cli.ui.console import Screen
from helix_cli.ui.progress_bar import ProgressBar
from helix_cli.ui.tables import per_second, percent

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

_PATIENCE_S = 1.0
"""A wait that is over sooner needs no spinner."""


class BatchProgress(ProgressBar):
    """How many texts of a batch are complete, how fast, and how much of the draft was accepted so far."""

    def __init__(self, total: int, screen: Screen | None = None) -> None:
        """A batch of `total` texts, shown on `screen` or on this process's stderr."""
        super().__init__(total, _columns, screen, expand=True)
        self._num_tokens = self._num_drafted = self._num_accepted = 0
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        """Start the clock and show the bar."""
        self._started = time.perf_counter()
        return super().__enter__()

    def advance(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, TextEvent):
            self._num_tokens += len(event.pieces)
            self._show(0)
        else:
            self._num_drafted += event.stats.num_drafted
            self._num_accepted += event.stats.num_accepted
            self._show(1)

    def _show(self, num_done: int) -> None:
        if self.is_shown:
            self.update(num_done, self.line)

    @property
    def line(self) -> str:
        """The numbers so far. The speed is of the whole batch; acceptance counts complete texts."""
        speed = per_second(ratio(self._num_tokens, time.perf_counter() - self._started))
        rate = ratio(self._num_accepted, self._num_drafted)
        return speed if rate is None else f"{speed}, {percent(rate)} accepted"


def _columns() -> list[ProgressColumn]:
    from rich.progress import BarColumn, TextColumn

    return [TextColumn("{task.completed}/{task.total} {task.description}", markup=False), BarColumn(bar_width=None)]


@contextmanager
def working(message: str, screen: Screen | None = None, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """A spinner with `message` while the body runs, if it runs for longer than `patience_s`."""
    screen = screen or Screen.detect()
    if not screen.is_lively:
        yield
        return
    from rich.text import Text

    status = screen.rich_err().status(Text(message))
    timer = threading.Timer(patience_s, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
