"""`helix chat` as a person meets it: on a terminal, with a real model that is made here and always says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.terminals import Terminal
from tests.tiny import speaking_checkpoint

ANSWER = "- Ça😀"
COLOUR = re.compile(r"\x1b\[[0-9;]*[34][0-9][;m]")
Start = Callable[..., Terminal]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program runs: a model, and a data directory that the tests share, as one user's sessions do."""
    place = tmp_path_factory.mktemp("terminal")
    speaking_checkpoint(place / "model", ANSWER, max_position_embeddings=32768)
    return place


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a chat on a terminal."""
    started: list[Terminal] = []

    def run(*arguments: str, **more: Any) -> Terminal:
        model = ("--model", "model", "--drafter", "early_exit", "--set", "cache.blocks=2048", "--set", "draft.layers=1")
        started.append(Terminal("chat", *model, *arguments, folder=folder, **more))
        return started[-1]

    yield run
    for terminal in started:
        terminal.close()


def said(folder: Path) -> list[tuple[str, str]]:
    """The questions and answers of the conversation that was written last."""
    file = max((folder / "data" / "chats").glob("*.json"), key=lambda one: one.stat().st_mtime_ns)
    contents = [one["content"] for one in json.loads(file.read_text(encoding="utf-8"))["messages"]]
    return list(zip(contents[::2], contents[1::2], strict=True))


def test_a_conversation(start: Start, folder: Path) -> None:
    """Markdown, emoji, paste, several lines, a window that changes, Ctrl-C in the answer and before it."""
    terminal = start()
    terminal.until_prompt()
    assert "context 0 %" in terminal.text

    terminal.type("Hé 😀\r")
    terminal.until("tok/s")
    terminal.until_prompt()
    assert "• Ça😀" in terminal.text and "> Hé 😀" in terminal.text and "\x1b[1m •" in terminal.raw
    assert said(folder) == [("Hé 😀", ANSWER)]

    terminal.type("\x1b[200~pasted\nlines\x1b[201~\r")
    terminal.until("prompt tokens reused")
    terminal.until_prompt()
    terminal.type("two\x1b\rlines\r")
    terminal.until(lambda text: text.count("prompt tokens reused") == 2)
    terminal.until_prompt()
    terminal.type('"""quoted\r\rlines"""\r')
    terminal.until(lambda text: text.count("prompt tokens reused") == 3)
    assert [question for question, _ in said(folder)[1:]] == ["pasted\nlines", "two\nlines", "quoted\n\nlines"]

    terminal.until_prompt()
    terminal.type("/set ignore-eos true\r")
    terminal.until("ignore-eos True")
    terminal.type("/set max-tokens 16000\r")
    terminal.until("max-tokens 16000")
    terminal.type("/clear\r")
    terminal.until("A new conversation")
    terminal.until_prompt()
    terminal.type("without end\r")
    terminal.until("Ça😀- Ça😀- Ça😀")
    terminal.resize(50, 20)
    seen = terminal.text
    terminal.until(lambda text: text != seen)
    terminal.type("\x03")
    terminal.until("stopped")
    terminal.until_prompt()
    question, answer = said(folder)[-1]
    assert question == "without end" and answer.startswith(ANSWER * 3)

    (folder / "long.txt").write_text("The quick brown fox! " * 1500, encoding="utf-8")
    terminal.type("/clear\r/file long.txt\r")
    terminal.until("goes with your next message")
    terminal.until_prompt()
    terminal.type("What is it?\r")
    terminal.until("Reading")
    terminal.type("\x03")
    terminal.until("Stopped before the first word")
    terminal.until_prompt()
    assert said(folder)[-1] == (question, answer)
    terminal.type("\x03")
    assert terminal.end() == 130


def test_a_narrow_terminal_without_colours(start: Start, folder: Path) -> None:
    """The history and the last conversation are there again; a mistyped command is not the end."""
    speak = start("first question")
    speak.until("tok/s")
    speak.until_prompt()
    speak.type("a question of more than forty characters, with 😀 in it\r")
    speak.until("tokens reused")
    speak.until_prompt()
    speak.type("\x04")
    assert speak.end() == 0 and "--continue takes it up" in speak.raw

    terminal = start("--continue", columns=40, NO_COLOR="1")
    terminal.until_prompt()
    assert "2 turns so far" in terminal.text
    terminal.type("\x1b[A")
    terminal.until("with 😀 in it")
    terminal.type("\r")
    terminal.until("of the draft accepted")
    terminal.until_prompt()
    assert ANSWER in terminal.text and "•" not in terminal.text
    terminal.type("/hlep\r")
    terminal.until("Did you mean /help?")
    terminal.type("/und\t\r")
    terminal.until("Taken back")
    terminal.type("\x04")
    assert terminal.end() == 0 and not COLOUR.search(terminal.raw)
    assert said(folder)[0] == ("first question", ANSWER) and len(said(folder)) == 2


def test_a_dumb_terminal(start: Start, folder: Path) -> None:
    terminal = start("--no-stats", TERM="dumb")
    terminal.until_prompt()
    terminal.type("Hé 😀\n")
    terminal.until(ANSWER)
    terminal.type('"""two\nlines"""\n')
    terminal.until(lambda text: text.count(ANSWER) == 2)
    terminal.until_prompt()
    assert said(folder) == [("Hé 😀", ANSWER), ("two\nlines", ANSWER)]
    terminal.type("\x03")
    terminal.until("Ctrl-C once more")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "\x1b" not in terminal.raw
