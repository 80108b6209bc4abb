"""The program on a pseudo-terminal, with an emulated screen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

PATIENCE_S = 60.0
"""For a machine that is busy with other things."""


class Terminal:
    """`helix` on a terminal of some size; what it writes is kept raw and drawn on a screen."""

    def __init__(self, *arguments: str, folder: Path, columns: int = 80, lines: int = 24, **environment: str) -> None:
        variables = {
            **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")},
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HELIX_DATA_DIR": str(folder / "data"),
            "TERM": "xterm-256color",
            # The emulated screen does not answer where its cursor is.
            "PROMPT_TOOLKIT_NO_CPR": "1",
            **environment,
        }
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "helix_cli", *arguments],
            env=variables,
            cwd=str(folder),
            dimensions=(lines, columns),
            encoding="utf-8",
            timeout=PATIENCE_S,
        )
        self.raw = ""

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def type(self, keys: str) -> None:
        """Presses keys."""
        self._child.send(keys)

    def resize(self, columns: int, lines: int) -> None:
        """Gives the window another size."""
        self._child.setwinsize(lines, columns)
        self._screen.resize(lines, columns)

    def until(self, seen: str | Callable[[str], bool]) -> None:
        """Waits until the screen shows a text, wherever its lines break, or something that `seen` likes."""
        likes = (lambda text: seen in text.replace("\n", "")) if isinstance(seen, str) else seen
        deadline = time.monotonic() + PATIENCE_S
        while not likes(self.text):
            assert time.monotonic() < deadline, f"waited in vain for {seen}:\n{self.text}"
            try:
                new = self._child.read_nonblocking(4096, timeout=0.1)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                raise AssertionError(f"ended before {seen}:\n{self.text}") from None
            self.raw += new
            self._stream.feed(new)

    def until_prompt(self) -> None:
        """Waits for an empty prompt at the end of what is shown."""
        self.until(lambda text: text.rstrip().rpartition("\n")[2].partition("  ")[0] in (">", "> "))

    def end(self) -> int:
        """Waits for the end; returns the exit code."""
        self.raw += self._child.read()
        self._stream.feed(self.raw[-4096:])
        self._child.close()
        assert self._child.exitstatus is not None, self.raw[-500:]
        return int(self._child.exitstatus)

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self._child.close(force=True)
