"""Where a copy goes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from helix_cli.errors import InputError
from helix_cli.ui.clipboard import copy
from tests.ui.screens import screen


@pytest.fixture(autouse=True)
def no_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine that runs the tests."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A desktop whose wl-copy is a shell script."""
    file = folder / "wl-copy"
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("WAYLAND_DISPLAY", "w")


def test_a_program_of_the_desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, f"cat > {tmp_path}/copied")
    target, _, err = screen(terminal=True)
    assert copy("Ça 😀", target) == "Copied with wl-copy."
    assert (tmp_path / "copied").read_text(encoding="utf-8") == "Ça 😀" and err.content == ""


@pytest.mark.parametrize("why", ["no desktop", "it fails", "another machine"])
def test_the_terminals_own(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why != "no desktop":
        program(tmp_path, monkeypatch, "exit 1" if why == "it fails" else f"cat > {tmp_path}/copied")
    if why == "another machine":
        monkeypatch.setenv("SSH_TTY", "/dev/pts/1")
    target, out, err = screen(terminal=True)
    assert "if it allows" in copy("Ça 😀", target)
    assert err.content == f"\x1b]52;c;{base64.b64encode('Ça 😀'.encode()).decode()}\x07" and out.content == ""
    assert not (tmp_path / "copied").exists()


def test_nowhere() -> None:
    for target in (screen(terminal=False)[0], screen(terminal=True, plain=True)[0]):
        with pytest.raises(InputError, match="no clipboard"):
            copy("x", target)
