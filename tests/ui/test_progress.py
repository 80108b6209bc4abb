"""The bar of a batch and the spinner, on terminals and off."""

from __future__ import annotations

import time

import pytest

from helix_cli.ui.progress import BatchProgress, working
from tests.ui.screens import finished_event, screen, text_event


@pytest.fixture(autouse=True)
def a_real_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind that the made-up ones pretend to be."""
    monkeypatch.setenv("TERM", "xterm")


def test_the_numbers_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 12.0, 14.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    progress = BatchProgress(2, screen(terminal=False)[0])
    with progress:
        progress.advance(text_event(("a", False), ("b", True)))
        assert progress.line == "1.0 tok/s"
        progress.advance(finished_event())
        assert progress.line == "0.5 tok/s, 50 % accepted"


@pytest.mark.parametrize("columns", ["20", "40", "120"])
def test_a_terminal_shows_how_many_are_done(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    target, out, err = screen(terminal=True)
    with BatchProgress(2, target) as progress:
        progress.advance(text_event(("a", False)))
        progress.advance(finished_event())
    assert "1/2" in err.content
    assert out.content == ""


def test_off_a_terminal_there_is_nothing() -> None:
    target, out, err = screen(terminal=False)
    with BatchProgress(1, target) as progress, working("Loading", target, patience_s=0.0):
        progress.advance(finished_event())
    assert out.content == err.content == ""


def test_an_exception_passes_and_the_bar_is_taken_down() -> None:
    target, _, err = screen(terminal=True)
    with pytest.raises(KeyboardInterrupt), BatchProgress(1, target):
        raise KeyboardInterrupt
    assert err.content.endswith("\x1b[?25h")  # the cursor is shown again


def test_a_short_wait_shows_no_spinner_and_a_long_one_does() -> None:
    target, _, err = screen(terminal=True)
    with working("Loading [model]", target, patience_s=60.0):
        pass
    assert err.content == ""
    with working("Loading [model]", target, patience_s=0.0):
        time.sleep(0.2)
    assert "Loading [model]" in err.content
