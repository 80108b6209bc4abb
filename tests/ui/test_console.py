"""What reaches a terminal and what reaches a pipe."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix_cli.ui.console import Screen, encodable, error, notice, visible
from tests.ui.screens import Stream, screen

NASTY = "a\x1b[31mred\x1b[0m\r\x07\x00\x7f\x9b2J\tb\n"


def test_control_codes_do_not_reach_a_terminal() -> None:
    target, out, _ = screen(terminal=True)
    target.write(NASTY)
    assert out.content == "a␛[31mred␛[0m␍␇␀␡�2J\tb\n"


def test_a_pipe_gets_the_text_unchanged() -> None:
    target, out, _ = screen(terminal=False)
    target.write(NASTY)
    assert out.content == NASTY


@settings(deadline=None)
@given(st.text())
def test_visible_text_has_no_controls_but_newline_and_tab(text: str) -> None:
    shown = visible(text)
    assert len(shown) == len(text)
    assert not any((ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in shown)


def test_an_encoding_without_the_character_gets_an_escape() -> None:
    stream = Stream(False, encoding="ascii")
    assert encodable("é😀a", stream) == "\\xe9\\U0001f600a"
    assert encodable("é", io.StringIO()) == "é"


@pytest.mark.parametrize(
    ("variables", "plain"),
    [
        ({}, False),
        ({"NO_COLOR": "1"}, True),
        ({"NO_COLOR": ""}, False),
        ({"TERM": "dumb"}, True),
        ({"TERM": "xterm"}, False),
    ],
)
def test_plain_output_is_detected(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], plain: bool) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Stream(True))
    monkeypatch.setattr(sys, "stderr", Stream(False))
    found = Screen.detect()
    assert (found.out_is_terminal, found.err_is_terminal, found.plain) == (True, False, plain)
    assert (found.has_colours, found.is_lively) == (not plain, False)


def test_errors_and_notices_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    error("It [failed].", "Do \x1b this.")
    error("No hint.")
    notice("A notice.")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Error: It [failed].\nHint: Do \x1b this.\nError: No hint.\nA notice.\n"


def test_an_error_on_a_terminal_has_a_bold_label_and_no_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    error("No \x1b[2J.")
    assert stream.content == "\x1b[1mError: \x1b[0mNo ␛[2J.\n"
