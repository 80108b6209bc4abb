"""Helix for `compare_peers`: through the session, as its commands use it."""

from __future__ import annotations

import os

import torch

from helix_cli import __version__
from helix_cli.config import load_config
from helix_cli.core import TextEvent
from helix_cli.draft.depth import FixedDepth
from helix_cli.prompt import Prompt
from helix_cli.session import open_session
from scripts.peer_protocol import Run, Stopwatch, serve


class Helix:
    """A session whose depth is set before each text."""

    def __init__(self, overrides: list[str]) -> None:
        self.process = os.getpid()
        self.versions = {"helix": __version__, "torch": torch.__version__}
        self.session = open_session(load_config(None, overrides))

    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        self.session.engine.scheduler.depth = FixedDepth(k)
        watch = Stopwatch()
        for event in self.session.stream([Prompt(0, text, max_tokens=tokens)]):
            if isinstance(event, TextEvent):
                watch.take([piece.token for piece in event.pieces if piece.token is not None])
        return watch.run()


if __name__ == "__main__":
    serve(Helix)
