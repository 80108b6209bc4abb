"""Lines at the bottom of a terminal that are still changing: only those that differ are written again."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TextIO

from helix_cli.ui.console import encodable

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class LiveLines:
    """Shows a growing text as lines of at most `width` - 1 cells.

    What does not fit the height scrolls away and is written no more, so nothing appears twice. The cursor stays behind
    the last character. All of a change goes out in one write, over the old text: nothing is cleared first, so nothing
    flickers.
    """

    def __init__(self, out: TextIO) -> None:
        """Begin where the cursor stands, at the start of a line."""
        self._out = out
        self._shown: list[str] = []
        self._gone: list[str] = []
        """Lines that have scrolled away."""
        self._width = 0

    def show(self, lines: list[str], width: int, height: int) -> None:
        """Makes the terminal show `lines`, all of the text from its beginning."""
        lines = self._still_here(lines, width)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._shown, lines, strict=False)))
        self._out.write(encodable(self._change(lines, same, width), self._out))
        self._out.flush()
        surplus = max(0, len(lines) - max(1, height - 1))
        self._gone += lines[:surplus]
        self._shown = lines[surplus:]

    def finish(self) -> None:
        """What is shown is final; the cursor goes to the next line."""
        if self._shown:
            self._out.write("\n")
            self._out.flush()
        self._shown, self._gone = [], []

    def _still_here(self, lines: list[str], width: int) -> list[str]:
        """Without the lines that have scrolled away; after a change of the width, characters tell which those are."""
        if width != self._width:
            self._width = width
            num_gone, passed, place = sum(map(_num_characters, self._gone)), 0, 0
            while place < len(lines) and (passed := passed + _num_characters(lines[place])) <= num_gone:
                place += 1
            self._gone = lines[:place] if num_gone else []
        return lines[len(self._gone) :]

    def _change(self, lines: list[str], same: int, width: int) -> str:
        """The codes that turn what is shown into `lines`, of which the first `same` are there already."""
        old = self._shown[same:]
        if not old:
            begin = "\n" if self._shown and len(lines) > same else ""
        else:
            # A terminal that became narrower has broken the old lines in two.
            up = sum(max(1, -(-_num_cells(line) // width)) for line in old) - 1
            begin = f"\x1b[{up}A\r" if up else "\r"
        new = "\n".join(f"{line}\x1b[K" for line in lines[same:])
        if old and not lines[same:]:
            # Fewer lines than before, and those unchanged: rub the rest out.
            return f"{begin}\x1b[J" + (f"\x1b[A\x1b[{_num_cells(lines[-1]) + 1}G" if lines else "")
        return f"{begin}{new}" + ("\x1b[J" if old else "")


def _plain(line: str) -> str:
    return _STYLE.sub("", line)


def _num_characters(line: str) -> int:
    return len("".join(_plain(line).split()))


def _num_cells(line: str) -> int:
    from rich.cells import cell_len

    return cell_len(_plain(line))
