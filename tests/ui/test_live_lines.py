"""Lines that change, on an emulated terminal: each shows once, and little is written again."""

from __future__ import annotations

import pyte
import pytest

from helix_cli.ui.live_lines import LiveLines
from tests.ui.screens import Stream


class Terminal:
    """A terminal with some lines of history, and the live lines that are written to it."""

    def __init__(self, columns: int = 20, lines: int = 6) -> None:
        self.columns, self.lines = columns, lines
        self.screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=0.5)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)
        self.out = Stream(True)
        self.live = LiveLines(self.out)
        self.written = ""

    def show(self, *lines: str) -> str:
        """Shows lines; returns what was written for it."""
        self.live.show(list(lines), self.columns, self.lines)
        return self.feed()

    def finish(self) -> None:
        """The lines are final."""
        self.live.finish()
        self.feed()

    def feed(self) -> str:
        """Gives the terminal what was written."""
        new = self.out.content[len(self.written) :]
        self.written += new
        self._stream.feed(new)
        return new

    @property
    def text(self) -> list[str]:
        """All lines, those that have scrolled away too, without empty ones at the end."""
        gone = ["".join(line[x].data for x in range(self.columns)).rstrip() for line in self.screen.history.top]
        lines = [*gone, *(line.rstrip() for line in self.screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def test_growing_text_writes_only_what_is_new() -> None:
    terminal = Terminal()
    terminal.show("one")
    terminal.show("one", "two")
    written = terminal.show("one", "two", "three")
    assert terminal.text == ["one", "two", "three"] and "one" not in written and "two" not in written
    written = terminal.show("one", "two", "three four")
    assert terminal.text == ["one", "two", "three four"] and "two" not in written
    assert "\x1b[2J" not in terminal.written
    terminal.finish()
    assert terminal.show("next") and terminal.text == ["one", "two", "three four", "next"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["one", "two", "three"], ["one", "2"]),
        (["one", "two", "three"], ["one"]),
        (["one", "two"], ["ONE", "two"]),
        (["one"], []),
        (["a longer line"], ["short"]),
        (["😀 é"], ["😀 éé", "x"]),
    ],
)
def test_lines_may_change_and_go(before: list[str], after: list[str]) -> None:
    terminal = Terminal()
    terminal.live.show(["above"], 20, 6)
    terminal.finish()
    terminal.show(*before)
    terminal.show(*after)
    assert terminal.text == ["above", *after]
    terminal.show(*after, "more")
    terminal.finish()
    assert terminal.text == ["above", *after, "more"]


def test_what_does_not_fit_scrolls_away_once() -> None:
    terminal = Terminal()
    lines: list[str] = []
    for number in range(30):
        lines.append("" if number % 4 == 3 else f"line {number}")
        terminal.show(*lines)
        if lines[-1]:
            terminal.show(*lines[:-1], f"{lines[-1]} +")
            lines[-1] += " +"
        terminal.show(*lines)
    terminal.finish()
    assert terminal.text == lines


def test_many_lines_at_once() -> None:
    terminal = Terminal()
    lines = [f"line {number}" for number in range(20)]
    terminal.show(*lines)
    terminal.show(*lines, "last")
    assert terminal.text == [*lines, "last"]


def test_a_change_of_the_width_repeats_nothing_that_has_scrolled_away() -> None:
    words = [f"w{number:02}" for number in range(60)]

    def wrapped(columns: int) -> list[str]:
        size = columns // 4
        return [" ".join(words[start : start + size]) for start in range(0, len(words), size)]

    terminal = Terminal()
    terminal.show(*wrapped(20))
    gone = len(wrapped(20)) - 5
    terminal.columns = 40
    written = terminal.show(*wrapped(40))
    first = written.split("w")[1][:2]
    # The wider line that holds the first word which is still live begins at most a line before it.
    assert gone * 5 - 10 < int(first) <= gone * 5
    terminal.finish()
