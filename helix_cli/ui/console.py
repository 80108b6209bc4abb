"""Where output goes: stdout is for text and nothing else, stderr for everything else; and what may be written there."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL_PICTURES = 0x2400
_DELETE, _DELETE_PICTURE = 0x7F, 0x2421
_REPLACEMENT = 0xFFFD
PIPE_WIDTH = 1000
_HARMLESS = frozenset(map(ord, "\n\t"))

_VISIBLE = {
    **{code: _CONTROL_PICTURES + code for code in range(0x20) if code not in _HARMLESS},
    _DELETE: _DELETE_PICTURE,
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),
}


@dataclass(frozen=True)
class Screen:
    """The two streams of this process, and what they can show."""

    out: TextIO
    err: TextIO
    out_is_terminal: bool
    err_is_terminal: bool
    plain: bool
    """No colours and no moving cursor, on either stream."""

    @classmethod
    def detect(cls) -> Screen:
        """The streams as they are now. NO_COLOR (no-color.org) and TERM=dumb mean plain output."""
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(sys.stdout, sys.stderr, sys.stdout.isatty(), sys.stderr.isatty(), plain)

    @property
    def has_colours(self) -> bool:
        """Whether text on stdout can be coloured."""
        return self.out_is_terminal and not self.plain

    @property
    def is_lively(self) -> bool:
        """Whether a progress display can be shown on stderr."""
        return self.err_is_terminal and not self.plain

    def write(self, text: str) -> None:
        """Text to stdout, at once: unchanged, except that a terminal gets no control codes."""
        self.out.write(encodable(visible(text) if self.out_is_terminal else text, self.out))
        self.out.flush()

    def rich_out(self) -> Console:
        """A Rich console on stdout."""
        return self._rich(self.out)

    def rich_tables(self) -> Console:
        """A Rich console on stdout for tables.

        A pipe gets lines as long as they need to be: whoever reads them may not be a terminal of 80 columns.
        """
        console = self.rich_out()
        if not self.out_is_terminal:
            console.width = PIPE_WIDTH
        return console

    def rich_err(self) -> Console:
        """A Rich console on stderr."""
        return self._rich(self.err)

    def _rich(self, stream: TextIO) -> Console:
        from rich.console import Console

        colours: Literal["auto"] | None = None if self.plain else "auto"  # None leaves out bold and dim as well
        return Console(file=stream, color_system=colours, highlight=False, markup=False, emoji=False)


def debugging() -> bool:
    """Whether HELIX_DEBUG asks for the phases of the start and for tracebacks."""
    return os.environ.get("HELIX_DEBUG", "0") not in ("", "0")


def error(message: str, hint: str = "") -> None:
    """What went wrong and what to do, on stderr."""
    screen = Screen.detect()
    console = screen.rich_err()
    for label, text in (("Error: ", message), ("Hint: ", hint)):
        if text:
            console.out(label, style="bold" if screen.is_lively else None, end="")
            notice(text)


def notice(line: str) -> None:
    """A line for the user, on stderr."""
    stream = sys.stderr
    stream.write(encodable((visible(line) if stream.isatty() else line) + "\n", stream))
    stream.flush()


def visible(text: str) -> str:
    """`text` with control characters shown as symbols: a model, or a file, must not steer the terminal.

    Newline and tab stay. The C1 controls are among the others: some terminals obey U+009B as they do ESC [.
    """
    return text.translate(_VISIBLE)


def encodable(text: str, stream: TextIO) -> str:
    """`text` with escapes in place of characters that the stream's encoding does not have."""
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text
