"""Made-up terminals and pipes."""

from __future__ import annotations

import io
from typing import Any

from helix_cli.core import FinishedEvent, FinishReason, Piece, TextEvent
from helix_cli.stats import Trace, summarise
from helix_cli.ui.console import Screen


class Stream(io.TextIOWrapper):
    """A stream in memory that may claim to be a terminal, and knows what was written."""

    def __init__(self, is_terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """As it was told."""
        return self._is_terminal

    @property
    def content(self) -> str:
        """Everything written so far."""
        self.flush()
        raw: Any = self.buffer
        return bytes(raw.getvalue()).decode(self.encoding)


def screen(terminal: bool, err_terminal: bool | None = None, plain: bool = False) -> tuple[Screen, Stream, Stream]:
    """A screen whose stdout (and stderr, unless said otherwise) is a terminal or a pipe; with both streams."""
    err_terminal = terminal if err_terminal is None else err_terminal
    out, err = Stream(terminal), Stream(err_terminal)
    return Screen(out, err, terminal, err_terminal, plain), out, err


def text_event(*pieces: tuple[str, bool], index: int = 0) -> TextEvent:
    """Pieces of (text, drafted), with ids counted from 10."""
    return TextEvent(index, tuple(Piece(text, 10 + i, drafted) for i, (text, drafted) in enumerate(pieces)))


def finished_event(reason: FinishReason = FinishReason.STOP, drafted: int = 4, text: str = "ab") -> FinishedEvent:
    """A request of 5 tokens, with `drafted` proposed in each of two rounds, half of them accepted."""
    trace = Trace(num_prompt_tokens=7, block_size=16, submitted=0.0, num_reused=3)
    trace.record_commit(0.5, 1)
    for now in (0.6, 0.9):
        trace.record_round(drafted, drafted // 2)
        trace.record_commit(now, 2)
    trace.record_time(0.1, 0.3, 0.0)
    trace.record_blocks(2, 17)
    stats = summarise(
        trace,
        load_s=1.25,
        context=2048,
        exact=True,
        exact_reason="no sum depends on company",
        now=1.0,
        process_to_first_token_s=3.5,
    )
    return FinishedEvent(0, text, (1, 2, 3, 4, 5), reason, stats)


INFO: dict[str, Any] = {
    "version": "1",
    "target": "org/target",
    "draft": "org/draft",
    "device": "A chip, 2 threads",
    "threads": 2,
    "dtype": "float32",
    "weights": "float32",
    "draft_weights": "float32",
    "drafter": "model",
    "k": 4,
}
