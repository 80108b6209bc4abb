"""Ctrl-C: the first asks, the second stops, and afterwards everything is as before."""

from __future__ import annotations

import signal

import pytest

from helix_cli.commands.interrupt import stop_on_interrupt
from helix_cli.errors import INTERRUPTED


def test_first_interrupt_asks_and_second_stops() -> None:
    calls: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(lambda: calls.append(1)) as interrupt:
        assert not interrupt.requested
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested and calls == [1]
        signal.raise_signal(signal.SIGINT)
    assert calls == [1]
    assert signal.getsignal(signal.SIGINT) is before
    assert INTERRUPTED == 130
