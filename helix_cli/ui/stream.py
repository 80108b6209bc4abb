"""Showing a text while it is generated: on a terminal, into a pipe, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from helix_cli.core import FinishedEvent, TextEvent
from helix_cli.ui.console import Screen, notice, visible
from helix_cli.ui.tables import stats_table, vocabulary

_DRAFT_STYLE, _TARGET_STYLE = "green", "magenta"
_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Control characters that JSON allows in a string and a terminal may obey."""


class Renderer(Protocol):
    """Shows the events of one run. `close` is called once, whether the run ended well or not."""

    def started(self, info: Mapping[str, Any]) -> None:
        """The models are loaded; `info` says which."""

    def text(self, event: TextEvent) -> None:
        """New text."""

    def finished(self, event: FinishedEvent) -> None:
        """A request is complete."""

    def close(self) -> None:
        """Nothing will follow."""


def open_renderer(json: bool, show_draft: bool, stats: bool, screen: Screen | None = None) -> Renderer:
    """The renderer for this process's streams, or for `screen`.

    `show_draft` colours the text that the draft proposed; without colours a notice says that it cannot. `stats` asks
    for the table of statistics, which is for people: it appears where stderr is a terminal.
    """
    screen = screen or Screen.detect()
    if json:
        return JsonRenderer(screen)
    if show_draft and not screen.has_colours:
        notice("The draft's text is not marked: stdout has no colours (not a terminal, NO_COLOR or TERM=dumb).")
        show_draft = False
    return LiveRenderer(screen, show_draft, stats) if screen.out_is_terminal else PlainRenderer(screen, stats)


class PlainRenderer:
    """Text to stdout as it comes, and a newline at the end if the text has none; statistics to stderr."""

    def __init__(self, screen: Screen, stats: bool) -> None:
        """Write to `screen`; `stats` asks for the table."""
        self._screen = screen
        self._stats = stats
        self._info: Mapping[str, Any] = {}
        self._last = "\n"

    def started(self, info: Mapping[str, Any]) -> None:
        """Shows nothing: the text comes first."""
        self._info = info

    def text(self, event: TextEvent) -> None:
        """See `Renderer`."""
        text = "".join(piece.text for piece in event.pieces)
        if text:
            self._screen.write(text)
            self._last = text[-1]

    def finished(self, event: FinishedEvent) -> None:
        """See `Renderer`."""
        self._end_line()
        if self._stats:
            console = self._screen.rich_err()
            console.print()
            console.print(stats_table(event, self._info, console.options.ascii_only))

    def close(self) -> None:
        """See `Renderer`."""
        self._end_line()

    def _end_line(self) -> None:
        if self._last != "\n":
            self._screen.write("\n")
            self._last = "\n"


class LiveRenderer(PlainRenderer):
    """The same on a terminal: says what runs, and can colour the text by who wrote it. Nothing is drawn twice."""

    def __init__(self, screen: Screen, show_draft: bool, stats: bool) -> None:
        """Write to `screen`; `show_draft` colours, `stats` asks for the line about the models and for the table."""
        super().__init__(screen, stats)
        self._show_draft = show_draft
        self._colours = screen.rich_out() if show_draft else None

    def started(self, info: Mapping[str, Any]) -> None:
        """See `Renderer`."""
        from rich.text import Text

        super().started(info)
        console = self._screen.rich_err()
        if self._stats:
            console.print(Text(visible(summary(info)), style="dim"))
        if self._show_draft:
            console.print(Text.assemble(("draft", _DRAFT_STYLE), "  ", ("target", _TARGET_STYLE)))

    def text(self, event: TextEvent) -> None:
        """See `Renderer`."""
        if self._colours is None:
            super().text(event)
            return
        for piece in event.pieces:
            if piece.text:
                style = _DRAFT_STYLE if piece.drafted else _TARGET_STYLE
                self._colours.out(visible(piece.text), style=style, end="")
                self._last = piece.text[-1]
        self._screen.out.flush()


class JsonRenderer:
    """One event a line to stdout, in UTF-8, as strict JSON."""

    def __init__(self, screen: Screen) -> None:
        """Write to the stdout of `screen`."""
        self._out = screen.out

    def started(self, info: Mapping[str, Any]) -> None:
        """See `Renderer`."""
        self._line({"event": "started", **info})

    def text(self, event: TextEvent) -> None:
        """See `Renderer`; `token_ids` and `drafted` have one entry for each token."""
        tokens = [piece for piece in event.pieces if piece.token is not None]
        self._line(
            {
                "event": "text",
                "index": event.index,
                "text": "".join(piece.text for piece in event.pieces),
                "token_ids": [piece.token for piece in tokens],
                "drafted": [piece.drafted for piece in tokens],
            }
        )

    def finished(self, event: FinishedEvent) -> None:
        """See `Renderer`."""
        self._line(
            {
                "event": "finished",
                "index": event.index,
                "text": event.text,
                "token_ids": list(event.token_ids),
                "finish_reason": str(event.finish_reason),
                "stats": event.stats.to_dict(),
            }
        )

    def close(self) -> None:
        """See `Renderer`."""
        self._out.flush()

    def _line(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).translate(_JSON_CONTROLS) + "\n"
        self._out.flush()
        self._out.buffer.write(line.encode("utf-8", "backslashreplace"))
        self._out.buffer.flush()


def summary(info: Mapping[str, Any]) -> str:
    """One line about what runs, from `SessionInfo.to_dict`."""
    draft = info.get("draft")
    drafter = f"draft {draft}" if draft else f"drafter {info['drafter']}"
    talk = info.get("vocabulary")
    other = f" ({vocabulary(talk)})" if draft and talk and talk["way"] != "same" else ""
    depth = _depth(info["k"])
    weights = _weights(info)
    return f"target {info['target']}, {drafter}{other}{depth}; {info['device']}, {weights}"


def _depth(k: int | str) -> str:
    if k == "auto":
        return ", depth auto"
    return f", {k} tokens ahead" if k else ""


def _weights(info: Mapping[str, Any]) -> str:
    """The number type of the computation, and the formats of the weights where they are others."""
    words = [str(info["dtype"])]
    if info["weights"] != info["dtype"]:
        words.append(f"{info['weights']} weights")
    if info["draft"] and info["draft_weights"] != info["weights"]:
        words.append(f"{info['draft_weights']} draft weights")
    return ", ".join(words)
