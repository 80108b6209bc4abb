"""The workers of `compare_peers`: processes, started when needed, kept loaded while memory allows, asked in turn."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from scripts.peer_protocol import Run, thread_environment

ANSWER_S = 1800.0
"""No single answer, loading included, takes longer on a machine that is worth measuring."""
ROOT = Path(__file__).parent.parent


class PeerError(Exception):
    """A peer could not do what it was asked; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """How to start a worker: an interpreter, a module of scripts/, and the settings of its `load` as JSON."""

    python: str
    module: str
    settings: str
    threads: int


class Worker:
    """A running worker; its engine is loaded when the constructor returns. Raises PeerError when it cannot be."""

    def __init__(self, recipe: Recipe) -> None:
        self.memory: dict[str, int] | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the worker writes to it all its life
        environment = {**os.environ, **thread_environment(recipe.threads)}
        try:
            self._process = subprocess.Popen(
                [recipe.python, "-m", recipe.module], cwd=ROOT, env=environment, text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise PeerError(f"{recipe.python} cannot be started: {error.strerror}") from None
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        loaded = self._ask({"load": json.loads(recipe.settings)})["loaded"]
        self.load_s: float = loaded["load_s"]
        self.versions: dict[str, str] = loaded["versions"]

    def generate(self, ids: list[int], text: str, tokens: int, k: int) -> Run:
        """One text of exactly `tokens` tokens; raises PeerError."""
        answer = self._ask({"generate": {"ids": ids, "text": text, "tokens": tokens, "k": k}})
        self.memory = answer["memory"]
        run = Run(**answer["run"])
        if len(run.tokens) != tokens:
            self.close()
            raise PeerError(f"gave {len(run.tokens)} tokens where {tokens} were asked for")
        return run

    def close(self) -> None:
        """Ends the worker and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            line = self._lines.get(timeout=ANSWER_S)
        except queue.Empty:
            line = json.dumps({"error": f"no answer within {ANSWER_S:.0f} seconds"})
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise PeerError(f"its process ended with code {code}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            words = self._last_words()
            self.close()
            raise PeerError(answer["error"] + (f" ({words})" if words else ""))
        return answer

    def _read(self) -> None:
        """Moves answers to where they can be waited for with a limit; an empty one says that there are no more."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _last_words(self) -> str:
        """The last line on stderr that says something."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]


class WorkerPool:
    """Loaded workers by recipe; those used longest ago go when a new one would take memory beyond `limit` bytes.

    `guess` is what a worker is taken to need before it has run once, after that its own peak counts.
    """

    def __init__(self, limit: float, guess: float) -> None:
        self.limit = limit
        self.guess = guess
        self._loaded: dict[Recipe, Worker] = {}
        self._peaks: dict[Recipe, float] = {}
        self._refused: dict[Recipe, str] = {}

    def get(self, recipe: Recipe) -> tuple[Worker, bool]:
        """A loaded worker, and whether it was loaded just now; raises PeerError, at once if it failed before."""
        if recipe in self._refused:
            raise PeerError(self._refused[recipe])
        if recipe in self._loaded:
            # Taken out and put back, so that the order stays that of use.
            self._loaded[recipe] = worker = self._loaded.pop(recipe)
            return worker, False
        self._make_room(self._peaks.get(recipe, self.guess))
        try:
            self._loaded[recipe] = Worker(recipe)
        except PeerError as error:
            self._refused[recipe] = str(error)
            raise
        return self._loaded[recipe], True

    def note_memory(self, recipe: Recipe) -> None:
        """Remembers what a worker has needed so far."""
        memory = self._loaded[recipe].memory
        if memory is not None:
            self._peaks[recipe] = memory["peak"]

    def drop(self, recipe: Recipe) -> None:
        """Ends a worker; nothing happens if it is not loaded."""
        worker = self._loaded.pop(recipe, None)
        if worker is not None:
            worker.close()

    def close(self) -> None:
        """Ends all workers."""
        for recipe in list(self._loaded):
            self.drop(recipe)

    def _make_room(self, needed: float) -> None:
        def held() -> float:
            return sum(self._peaks.get(recipe, self.guess) for recipe in self._loaded)

        while self._loaded and held() + needed > self.limit:
            self.drop(next(iter(self._loaded)))
