"""Questions put to processes of their own: a device that aborts, hangs or cannot be imported costs only its answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

TIMEOUT_S: Final = 30.0
"""A device that answers does so within a few seconds, most of which torch's import takes."""


@dataclass(frozen=True)
class Answer:
    """What a process wrote, a JSON object a line, and how it ended if not well."""

    lines: tuple[dict[str, Any], ...]
    failure: str | None
    """A clause such as "the process was aborted (signal 6) while it tried float16"; None where it ended well."""

    def get(self, key: str) -> Any:
        """The last value under a key; None where no line has it."""
        return next((line[key] for line in reversed(self.lines) if key in line), None)


def ask(questions: Mapping[str, Sequence[str]], timeout_s: float = TIMEOUT_S) -> dict[str, Answer]:
    """The answers to several questions that run at the same time: name -> `python -m` with these arguments."""
    environment = {name: value for name, value in os.environ.items() if name != "HELIX_DEBUG"}
    children = {
        name: subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        for name, arguments in questions.items()
    }
    deadline = time.monotonic() + timeout_s
    try:
        return {name: _answer(child, deadline, timeout_s) for name, child in children.items()}
    finally:
        for child in children.values():
            with suppress(OSError):
                child.kill()
            child.wait()


def _answer(child: subprocess.Popen[bytes], deadline: float, timeout_s: float) -> Answer:
    hung = False
    try:
        out, err = child.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        hung = True
        child.kill()
        out, err = child.communicate()
    lines = tuple(_objects(out))
    if child.returncode == 0 and not hung:
        return Answer(lines, None)
    trying = next((line["trying"] for line in reversed(lines) if "trying" in line), None)
    while_trying = f" while it tried {trying}" if trying else ""
    if hung:
        return Answer(lines, f"it gave no answer within {timeout_s:.0f} s{while_trying}")
    # Unix says a signal as a negative number, Windows an abort as a large one.
    if child.returncode < 0 or child.returncode > 255:
        return Answer(lines, f"the process was aborted (code {child.returncode}){while_trying}")
    return Answer(lines, f"{_last_line(err)}{while_trying}")


def _objects(written: bytes) -> list[dict[str, Any]]:
    """The lines that are JSON objects: libraries write to stdout too."""
    found = []
    for line in written.decode("utf-8", "replace").splitlines():
        with suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def _last_line(written: bytes) -> str:
    """What a traceback ends with."""
    lines = written.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].rstrip(".") if lines else "the process failed and said nothing"
