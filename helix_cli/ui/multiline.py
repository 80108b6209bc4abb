"""Messages of several lines: text between two lines of three double quotes."""

from __future__ import annotations

QUOTES = '"""'


def is_open(text: str) -> bool:
    """Whether `text` begins with three quotes and still waits for the closing ones."""
    return text.lstrip().startswith(QUOTES) and text.count(QUOTES) == 1


def unquoted(text: str) -> str:
    """`text` without the quotes around it."""
    inner = text.strip()
    if inner.startswith(QUOTES):
        inner = inner.removeprefix(QUOTES).removesuffix(QUOTES)
        return inner.strip("\n")
    return inner
