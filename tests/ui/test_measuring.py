"""Tables and progress of a measurement, on terminals and in pipes."""

from __future__ import annotations

import re

import pytest

from helix_cli.ui.console import Screen
from helix_cli.ui.measuring import MeasureProgress, fitting_widths, show_lines, show_table
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


def test_widths_leave_words_whole() -> None:
    lines = [["work", "arm", "value", "draft / target"], ["chat", "plain", "1.50", "20/80"]]
    assert fitting_widths(lines, 36) == [4, 5, 5, 14]
    assert fitting_widths(lines, 28) == [4, 5, 5, 6]
    assert fitting_widths(lines, 27) is None


def test_a_narrow_terminal_breaks_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, row = (
        ("work", "arm", "accepted", "tok/s", "expected", ""),
        ("chat", "speculative", "50 %", "123.4", "1.23", "best"),
    )
    for width, kept in ((60, True), (40, False), (20, False)):
        monkeypatch.setenv("COLUMNS", str(width))
        out = shown(monkeypatch, terminal=True)
        show_table("T", columns, [row], [0.5])
        content = re.sub(r"\x1b\[\d*m", "", out.content)
        assert all(len(line) <= width for line in content.splitlines())
        assert all(value in content for value in row)
        assert ("accepted: 50 %" in content) is not kept and "█" not in content


def test_progress_is_for_terminals() -> None:
    for terminal in (True, False):
        made, out, err = screen(terminal)
        with MeasureProgress(2, made) as progress:
            progress.advance("plain 10.0 tok/s")
            progress.advance("plain 11.0 tok/s")
        assert out.content == ""
        assert ("plain 11.0 tok/s" in err.content) is terminal
