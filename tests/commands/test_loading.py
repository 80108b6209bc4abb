"""Opening a session says what the user should know about the device."""

from types import SimpleNamespace
from typing import Any

import pytest

from helix_cli.commands.loading import load_session
from helix_cli.config import Config


def test_notes_about_the_device_reach_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: Any = SimpleNamespace(info=SimpleNamespace(notes=("A GPU is there and did not work.",)))
    monkeypatch.setattr("helix_cli.session.open_session", lambda config, prompts, phases: opened)
    assert load_session(Config()) is opened
    assert capsys.readouterr() == ("", "A GPU is there and did not work.\n")
