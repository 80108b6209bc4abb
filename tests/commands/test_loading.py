"""Opening a session says what the user should know about the device, and looks for no garbage before that."""

import gc
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from helix_cli.commands.loading import garbage_ignored, load_session
from helix_cli.config import Config


def test_notes_about_the_device_reach_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: Any = SimpleNamespace(info=SimpleNamespace(notes=("A GPU is there and did not work.",)))
    monkeypatch.setattr("helix_cli.session.open_session", lambda config, prompts, phases: opened)
    assert load_session(Config()) is opened
    assert capsys.readouterr() == ("", "A GPU is there and did not work.\n")


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each time that everything alive is exempted for good; nothing here really is."""
    calls: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    return calls


def test_no_garbage_is_looked_for_while_torch_is_imported(monkeypatch: pytest.MonkeyPatch, frozen: list[str]) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(ImportError), garbage_ignored():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled() and frozen == ["freeze"]


def test_later_sessions_leave_the_collector_alone(monkeypatch: pytest.MonkeyPatch, frozen: list[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    with garbage_ignored():
        assert gc.isenabled()
    assert frozen == []


def test_a_collector_that_is_off_stays_off(monkeypatch: pytest.MonkeyPatch, frozen: list[str]) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    gc.disable()
    try:
        with garbage_ignored():
            pass
        assert not gc.isenabled() and frozen == []
    finally:
        gc.enable()
