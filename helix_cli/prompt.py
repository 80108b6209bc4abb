"""What a command asks for: one prompt. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """One text to continue, or one conversation to answer; exactly one of `text` and `messages` is given."""

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
