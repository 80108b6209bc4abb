"""Ctrl-C as a request: the first one asks the work to stop, a second one stops it wherever it is."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from helix_cli.errors import Interrupted


@dataclass
class Interrupt:
    """Whether the user asked to stop."""

    requested: bool = False

    def end_here(self) -> None:
        """Raises Interrupted if so: between two pieces of work, the first of which may have ended before it heard."""
        if self.requested:
            raise Interrupted


@contextmanager
def stop_on_interrupt(stop: Callable[[], None]) -> Iterator[Interrupt]:
    """Inside, the first Ctrl-C calls `stop`, which must be safe at any point; a second raises KeyboardInterrupt.

    Signals reach the main thread only, so use it there.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True
        stop()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def raise_on_interrupt() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt at once: for work whose results are kept step by step.

    Elsewhere it ends the program (see __main__.py). Signals reach the main thread only, so use it there.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
