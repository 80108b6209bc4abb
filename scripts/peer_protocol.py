"""What `compare_peers` and its workers say to each other: one JSON object a line over stdin and stdout.

Standard library only, because a worker may run on an interpreter that has no Helix. A worker is asked, in this order,

    {"load": {...}}                                            answered by {"loaded": {...}}
    {"generate": {"ids": [...], "text": "...", "tokens": 128, "k": 4}}   answered by {"run": {...}}, any number of times

or answers {"error": "..."}; it ends when its stdin does. What a library prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO


@dataclass(frozen=True)
class Run:
    """One generated text. Times are in seconds."""

    tokens: list[int]
    first_s: float
    """From the request to its first token, as the caller sees it."""
    num_first: int
    """Tokens that came together with the first; 1 unless the engine drafts before it."""
    decode_s: float
    """From the first token to the last."""
    rounds: int
    """Passes of the target after the first token; plain decoding needs one a token."""


class Engine(Protocol):
    """A loaded engine. `process` is the id of the process that holds the model."""

    process: int
    versions: dict[str, str]

    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        """Continues a prompt greedily by exactly `tokens` tokens, past any end-of-text token, `k` drafted a round."""


@dataclass
class Stopwatch:
    """Collects tokens with their times as an engine hands them out."""

    begun: float = field(default_factory=time.perf_counter)
    commits: list[tuple[float, list[int]]] = field(default_factory=list)

    def take(self, tokens: list[int]) -> None:
        """These tokens have just come."""
        if tokens:
            self.commits.append((time.perf_counter(), tokens))

    def run(self) -> Run:
        """The text and its times; raises ValueError when nothing came."""
        if not self.commits:
            raise ValueError("no token came")
        first, last = self.commits[0][0], self.commits[-1][0]
        return Run(
            tokens=[token for _, tokens in self.commits for token in tokens],
            first_s=first - self.begun,
            num_first=len(self.commits[0][1]),
            decode_s=last - first,
            rounds=len(self.commits) - 1,
        )


def serve(load: Callable[..., Engine]) -> None:
    """Runs a worker: `load` gets the settings as keyword arguments and returns the engine."""
    engine: Engine | None = None
    answer: dict[str, Any]
    with _private_stdout() as answers:
        for line in sys.stdin:
            try:
                [(request, content)] = json.loads(line).items()
                if request == "load":
                    begun = time.perf_counter()
                    engine = load(**content)
                    load_s = time.perf_counter() - begun
                    answer = {"loaded": {"load_s": load_s, "versions": engine.versions}}
                else:
                    assert engine is not None, "load comes first"
                    answer = {"run": asdict(engine.generate(**content)), "memory": memory(engine.process)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)


def memory(process: int) -> dict[str, int] | None:
    """A process's resident memory in bytes, now and at its peak; None where the system does not say."""
    try:
        return parse_memory(Path(f"/proc/{process}/status").read_text())
    except OSError:
        return None


def parse_memory(status: str) -> dict[str, int] | None:
    """The same from the text of Linux's /proc/PID/status; files mapped into memory count as far as they are in it."""
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        return {name: int(lines[key].split()[0]) * 1024 for name, key in (("now", "VmRSS"), ("peak", "VmHWM"))}
    except KeyError:
        return None


@contextmanager
def _private_stdout() -> Iterator[TextIO]:
    """The real stdout; whatever else writes to stdout meanwhile, native code too, lands on stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        yield answers


def thread_environment(threads: int) -> dict[str, str]:
    """The variables that keep libraries to `threads` threads and off the network."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: str(threads) for name in names} | {
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
