"""Markdown while it is being written: a block that is finished is printed once, and only the open one is live."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from helix_cli.core import FinishedEvent, TextEvent
from helix_cli.ui.console import Screen, visible
from helix_cli.ui.live_lines import LiveLines

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

INTERVAL_S = 0.05
"""A faster model's tokens are shown several at a time."""
CODE_THEME = "ansi_dark"
"""The terminal's own colours, on its own background: legible on dark and light ones, and no padding to be copied."""


class MarkdownRenderer:
    """Shows one answer on a terminal that has colours. Implements `Renderer` of helix_cli/ui/stream.py."""

    def __init__(self, screen: Screen, interval_s: float = INTERVAL_S) -> None:
        """Write to stdout of `screen`, at most once in `interval_s` seconds."""
        self._console = screen.rich_out()
        self._lines = LiveLines(screen.out)
        self._out = screen.out
        self._interval_s = interval_s
        self._drawn_at = float("-inf")
        self._open = ""
        self._num_finished = 0

    def started(self, info: Mapping[str, Any]) -> None:
        """Shows nothing: the text comes first."""

    def text(self, event: TextEvent) -> None:
        """See `Renderer`."""
        self._open += visible("".join(piece.text for piece in event.pieces))
        now = time.monotonic()
        if now - self._drawn_at >= self._interval_s:
            self._draw()
            self._drawn_at = now

    def finished(self, event: FinishedEvent) -> None:
        """See `Renderer`."""
        self.close()

    def close(self) -> None:
        """See `Renderer`."""
        self._draw()
        if self._open.strip():
            self._lines.finish()
        self._open = ""

    def _draw(self) -> None:
        finished = num_finished(self._open)
        if finished:
            self._show(self._open[:finished])
            self._lines.finish()
            self._open = self._open[finished:]
            self._num_finished += 1
        if self._open.strip():
            self._show(self._open)

    def _show(self, source: str) -> None:
        width, height = self._console.size
        with self._console.capture() as capture:
            self._console.print(markdown(source), width=max(2, width - 1))
        lines = [line.rstrip() for line in capture.get().strip("\n").split("\n")]
        # Blocks are apart by an empty line, also where they are printed one by one.
        self._lines.show([""] * (self._num_finished > 0) + lines, width, height)


def num_finished(source: str) -> int:
    """Characters of `source` in blocks that nothing which follows can change: all blocks but the last."""
    starts = [
        token.map[0] for token in _parser().parse(source) if token.level == 0 and token.map and token.nesting >= 0
    ]
    if len(starts) < 2:
        return 0
    return sum(len(line) for line in source.splitlines(keepends=True)[: starts[-1]])


def markdown(source: str) -> Markdown:
    """Rich's rendering with line ends kept, headings on the left, and code without a background or padding."""
    rendered = _markdown_class()(source, code_theme=CODE_THEME, hyperlinks=False)
    for token in rendered.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    found: Markdown = rendered
    return found


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt().enable("strikethrough").enable("table")


@cache
def _markdown_class() -> Any:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import CodeBlock, Heading, Markdown
    from rich.syntax import Syntax

    class PlainCode(CodeBlock):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            code = str(self.text).rstrip()
            yield Syntax(code, self.lexer_name, theme=self.theme, word_wrap=True, background_color="default")

    class LeftHeading(Heading):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            self.text.justify = "left"
            self.text.stylize("bold")
            yield self.text

    class ChatMarkdown(Markdown):
        elements = {  # noqa: RUF012 - Rich declares it so
            **Markdown.elements,
            "fence": PlainCode,
            "code_block": PlainCode,
            "heading_open": LeftHeading,
        }

    return ChatMarkdown
