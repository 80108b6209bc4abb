"""Markdown that is still being written."""

from __future__ import annotations

import re

import pytest

from helix_cli.ui import markdown as module
from helix_cli.ui.markdown import MarkdownRenderer, num_finished
from tests.ui.screens import finished_event, screen, text_event
from tests.ui.test_live_lines import Terminal

ANSWER = """# Files

Some **bold** text, `code` and
a second line 😀.

- one
- two

```python
def f():
    return "x"
```

| a | b |
|---|---|
| 1 | 2 |

The end.
"""


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 columns, 12 lines, with colours."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "40", "LINES": "12"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def written(text: str, size: int, interval_s: float = 0.0) -> str:
    """What the terminal gets for a text that comes in pieces of some characters."""
    target, out, _ = screen(terminal=True)
    renderer = MarkdownRenderer(target, interval_s)
    for start in range(0, len(text), size):
        renderer.text(text_event((text[start : start + size], False)))
    renderer.finished(finished_event())
    renderer.close()
    return out.content


def shown(codes: str) -> list[str]:
    """All the lines of the terminal in the end."""
    emulated = Terminal(columns=40, lines=12)
    emulated.out.write(codes)
    emulated.feed()
    return emulated.text


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_pieces_make_the_same_screen_as_the_whole(size: int) -> None:
    lines = shown(written(ANSWER, size))
    assert lines == shown(written(ANSWER, len(ANSWER)))
    text = "\n".join(lines)
    for word in ("Files\n\nSome bold text, code and\na second line 😀", "• one\n • two", "def f():", "The end."):
        assert word in text.replace("😀 .", "😀")
    assert "**" not in text and "```" not in text and "|" not in text


def test_finished_blocks_are_not_written_again() -> None:
    """One word a piece: the text before the open block is written once."""
    paragraphs = "\n\n".join(f"Paragraph number {number}." for number in range(40))
    codes = written(paragraphs, 5)
    for number in range(40):
        assert len(re.findall(rf"number {number}\.", codes)) == 1
    assert "\x1b[2J" not in codes and len(codes) < 20 * len(paragraphs)


def test_a_fast_model_is_drawn_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[str] = []
    render = module.markdown
    monkeypatch.setattr(module, "markdown", lambda source: draws.append(source) or render(source))  # type: ignore[func-returns-value]
    codes = written("word " * 200, 5, interval_s=3600.0)
    assert len(draws) == 2 and "\n".join(shown(codes)).count("word") == 200


@pytest.mark.parametrize(
    ("source", "finished"),
    [
        ("", ""),
        ("one\n", ""),
        ("one\n\ntw", "one\n\n"),
        ("- a\n- b\n", ""),
        ("- a\n\n  more\n", ""),
        ("```\na\n\nb\n", ""),
        ("```\na\n```\nthen", "```\na\n```\n"),
        ("title\n", ""),
        ("| a | b |\n|---|---|\n| 1 |", ""),
        ("\n\none", ""),
    ],
)
def test_what_cannot_change_any_more(source: str, finished: str) -> None:
    assert source[: num_finished(source)] == finished


def test_a_model_does_not_steer_the_terminal() -> None:
    codes = written("a \x1b]52;c;AAAA\x07 [link](https://example.com/\x9b2J) b", 1)
    assert "\x1b]" not in codes and "\x9b" not in codes and "\x07" not in codes


def test_an_empty_answer_writes_nothing() -> None:
    assert written(" ", 1) == ""
