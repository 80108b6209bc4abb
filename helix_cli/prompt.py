"""What a command asks for: one prompt, and the text files that it may come from. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix_cli.errors import InputError


@dataclass(frozen=True)
class Prompt:
    """One text to continue, or one conversation to answer; exactly one of `text`, `messages`, `tokens` is given."""

    index: int
    """Its place among the prompts of the run, from 0; events carry it."""
    text: str | None = None
    messages: tuple[Mapping[str, str], ...] | None = None
    """Each has a `role` and a `content`; the model's chat template turns them into text."""
    id: Any = None
    """Whatever the user calls it; returned with the result and not interpreted."""
    max_tokens: int | None = None
    """None follows the configuration."""
    priority: int = 0
    """A smaller number runs earlier."""
    tokens: tuple[int, ...] | None = None
    """Token ids that are fed as they are: a conversation whose history must be found again in the cache."""


def read_text(file: Path) -> str:
    """The text of a file. Raises InputError for one that cannot be read or is not UTF-8."""
    try:
        return decoded(file.read_bytes(), str(file))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{file} cannot be read: {reason}.", "Check the path and its permissions.") from None


def decoded(content: bytes, name: str) -> str:
    """UTF-8 with any line ends; the platform's own encoding would make a prompt depend on the machine."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text.", "Convert it to UTF-8 first.") from None
    return text.replace("\r\n", "\n")


def is_unicode(text: str) -> bool:
    """Half of a surrogate pair has no UTF-8 form, and no tokenizer takes it."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
