"""The clipboard: a program of the desktop where there is one, else the terminal's own (OSC 52)."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys

from helix_cli.errors import InputError
from helix_cli.ui.console import Screen

PROGRAMS = (
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
)
"""An environment variable that says that there is such a desktop, and the program."""
TIMEOUT_S = 5.0


def copy(text: str, screen: Screen) -> str:
    """Copies `text`; returns how, in words. Raises InputError where there is no way."""
    command = _program()
    if command is not None and _fed(command, text):
        return f"Copied with {command[0]}."
    if not screen.is_lively:
        raise InputError("There is no clipboard here.", "Use /save to write the conversation to a file.")
    # Which terminals obey, and up to what length, cannot be asked.
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")
    screen.err.write(f"\x1b]52;c;{encoded}\x07")
    screen.err.flush()
    return "Sent to the terminal's clipboard, if it allows that."


def _program() -> tuple[str, ...] | None:
    if os.environ.get("SSH_TTY"):
        return None  # the desktop of that machine is not the one in front of the user
    fixed = {"darwin": ("pbcopy",), "win32": ("clip",)}.get(sys.platform)
    found = [command for variable, command in PROGRAMS if os.environ.get(variable)] if fixed is None else [fixed]
    return next((command for command in found if shutil.which(command[0])), None)


def _fed(command: tuple[str, ...], text: str) -> bool:
    try:
        done = subprocess.run(
            command, input=text.encode("utf-8", "replace"), capture_output=True, check=False, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
