"""A worker of `compare_peers` that does what its settings say, for tests; standard library only."""

from __future__ import annotations

import os
import sys

from scripts.peer_protocol import Run, serve


class Fake:
    """Gives token ids 0, 1, 2, ... or misbehaves: `trouble` is "load", "error", "crash", "short" or nothing."""

    def __init__(self, name: str, trouble: str = "", after: int = 0) -> None:
        if trouble == "load":
            raise RuntimeError("no such model")
        self.process = os.getpid()
        self.versions = {name: "1.0"}
        self.trouble = trouble
        self.after = after

    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        print("libraries write to stdout")
        self.after -= 1
        if self.after < 0:
            if self.trouble == "error":
                raise ValueError("that went wrong")
            if self.trouble == "crash":
                print("segmentation fault, so to speak", file=sys.stderr, flush=True)
                os._exit(3)
            tokens -= self.trouble == "short"
        return Run(list(range(tokens)), 0.25, 1, (tokens - 1) * 0.1, (tokens - 1) // (1 + k))


if __name__ == "__main__":
    serve(Fake)
