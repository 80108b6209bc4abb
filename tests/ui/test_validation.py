"""The table of `helix validate` on wide and narrow terminals."""

from __future__ import annotations

import re

import pytest

from helix_cli.ui.console import Screen
from helix_cli.ui.validation import show_validation
from tests.ui.screens import screen

ROWS = [("numerics", "numerics.reference", "pass", "the largest difference stands here"), ("a", "a.b", "fail", "why")]


@pytest.mark.parametrize(("width", "wanted"), [(90, "pass    numerics.reference  the largest"), (40, "  the largest")])
def test_evidence_is_readable_on_every_terminal(monkeypatch: pytest.MonkeyPatch, width: int, wanted: str) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    made, out, _ = screen(True)
    monkeypatch.setattr(Screen, "detect", classmethod(lambda cls: made))
    show_validation(ROWS, "FAILED: 1 of 2 checks, a.b.")
    content = re.sub(r"\x1b\[[\d;]*m", "", out.content)
    lines = content.splitlines()
    assert any(wanted in line for line in lines) and all(len(line) <= width for line in lines)
    assert {"difference", "stands", "why"} <= set(content.split()) and lines[-1] == "FAILED: 1 of 2 checks, a.b."
