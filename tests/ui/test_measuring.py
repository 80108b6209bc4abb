"""Tables and progress of a measurement, on terminals and in pipes."""

from __future__ import annotations

import pytest

from helix_cli.ui.console import Screen
from helix_cli.ui.measuring import MeasureProgress, show_lines, show_table
from tests.ui.screens import Stream, screen


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> Stream:
    made, out, _ = screen(terminal)
    monkeypatch.setattr(Screen, "detect", classmethod(lambda cls: made))
    return out


def test_a_pipe_gets_whole_lines_and_no_control_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, terminal=False)
    show_table("T", ("work", "arm", "value"), [("chat", "speculative", "x" * 200)], [0.5])
    show_lines(["One.", "Two."])
    assert f"chat  speculative  {'x' * 200}  █████░░░░░" in out.content and "\x1b" not in out.content
    assert out.content.endswith("One.\nTwo.\n\n")


def test_a_title_is_not_broken_where_its_table_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        out = shown(monkeypatch, terminal)
        show_table("Acceptance once all before was kept", ("a", "b"), [("1", "2")])
        assert "Acceptance once all before was kept" in out.content


def test_a_terminal_wraps_figures_and_shows_no_foreign_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = shown(monkeypatch, terminal=True)
    show_table("T", ("work", "arm", "value"), [("chat", "speculative", "word " * 20), ("a\x1b[2J", "b", "c")])
    assert "speculative" in out.content and "\x1b[2J" not in out.content


def test_progress_is_for_terminals() -> None:
    for terminal in (True, False):
        made, out, err = screen(terminal)
        with MeasureProgress(2, made) as progress:
            progress.advance("plain 10.0 tok/s")
            progress.advance("plain 11.0 tok/s")
        assert out.content == ""
        assert ("plain 11.0 tok/s" in err.content) is terminal
