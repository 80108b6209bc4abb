"""The file of results of a batch: one JSON object a line, written as soon as a text is complete."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from helix_cli.core import FinishedEvent
from helix_cli.errors import InputError
from helix_cli.prompt import Prompt

RESULT_START = b'{"index": '
"""How every line of results begins."""


class Results:
    """Writes results to a stream of bytes; an interruption loses no line that was written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, prompt: Prompt, event: FinishedEvent) -> None:
        """Adds the result of one prompt."""
        line = {
            **_question(prompt),
            "text": event.text,
            "token_ids": list(event.token_ids),
            "finish_reason": str(event.finish_reason),
            "stats": event.stats.to_dict(),
        }
        # JSON is UTF-8 by definition; a lone surrogate in an id becomes the escape it came from.
        self._stream.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        self._stream.flush()


@contextmanager
def open_results(file: Path | None) -> Iterator[Results]:
    """Results at the end of `file`, or on stdout. Raises InputError for a file that cannot be written."""
    if file is None:
        yield Results(sys.stdout.buffer)
        return
    try:
        stream = file.open("ab")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{file} cannot be written: {reason}.", "Give --output a path you can write to.") from None
    with stream:
        yield Results(stream)


def unanswered(prompts: Sequence[Prompt], file: Path | None, resume: bool) -> list[Prompt]:
    """The prompts that `file` has no result for. Raises InputError where going on would mix or lose results."""
    try:
        if file is None or not file.is_file() or file.stat().st_size == 0:
            return list(prompts)
        if not resume:
            raise InputError(f"{file} already holds results.", "Add --resume to go on with it, or name another file.")
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        torn = content[len(whole) :]
        lines = whole.splitlines()
        done = {_answered(line, prompts, f"Line {number} of {file}") for number, line in enumerate(lines, start=1)}
        if torn and not (torn.startswith(RESULT_START) or RESULT_START.startswith(torn)):
            raise InputError(f"The end of {file} is not that of a result.", "Name another file for --output.")
        # Last, when nothing can refuse the file any more: a line that was being written when the run was stopped.
        os.truncate(file, len(whole))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{file} cannot be used: {reason}.", "Give --output a path you can read and write.") from None
    return [prompt for prompt in prompts if prompt.index not in done]


def _question(prompt: Prompt) -> dict[str, Any]:
    """What a result repeats of its prompt."""
    asked = prompt.text if prompt.messages is None else [dict(message) for message in prompt.messages]
    return {"index": prompt.index, "id": prompt.id, "prompt": asked}


def _answered(line: bytes, prompts: Sequence[Prompt], where: str) -> int:
    """The index of the prompt that a line of results answers."""
    try:
        result = json.loads(line)
        question = _question(prompts[result["index"]])
        if all(result[key] == value for key, value in question.items()):
            return int(question["index"])
    except (ValueError, TypeError, KeyError, IndexError):
        pass
    raise InputError(f"{where} is not the result of any of these prompts.", "Name another file for --output.")
