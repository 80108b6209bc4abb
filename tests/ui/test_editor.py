"""Reading messages without a terminal; tests/commands/test_chat_terminal.py drives the editor on one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from helix_cli.ui.completion import SlashCompleter
from helix_cli.ui.editor import LineReader, quiet_keyboard
from helix_cli.ui.multiline import is_open, unquoted


def test_lines_and_blocks() -> None:
    text = 'one\r\n\n"""two\n\n  three\n"""\n"""four"""\n"""never closed\n'
    reader = LineReader(io.StringIO(text), None)
    assert [reader.read() for _ in range(4)] == ["one", "", "two\n\n  three", "four"]
    with pytest.raises(EOFError):
        reader.read()


def test_a_person_sees_a_prompt() -> None:
    seen = io.StringIO()
    reader = LineReader(io.StringIO('a\n"""b\n"""\n'), seen)
    assert (reader.read(), reader.read("old")) == ("a", "b")
    assert seen.getvalue() == "> old\n>   "


@pytest.mark.parametrize(
    ("text", "opened", "plain"),
    [
        ("a", False, "a"),
        ('"""', True, ""),
        ('"""a\nb', True, "a\nb"),
        ('"""a\nb"""', False, "a\nb"),
        ('say """', False, 'say """'),
        ('  """a"""  ', False, "a"),
    ],
)
def test_three_quotes(text: str, opened: bool, plain: str) -> None:
    assert (is_open(text), unquoted(text)) == (opened, plain)


def completions(text: str) -> list[str]:
    """What is offered behind `text`."""
    completer = SlashCompleter({"save": True, "set": False, "help": False})
    return [one.text for one in completer.get_completions(Document(text), CompleteEvent())]


def test_completion_of_commands_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completions("/") == ["save", "set", "help"]
    assert completions("/s") == ["save", "set"]
    assert completions("/save no") == ["tes.txt"]
    assert completions("/save ") == ["notes.txt", "other"]
    assert [completions(text) for text in ("/set no", "s", "", "a /s", "/s\n/s")] == [[], [], [], [], []]


def test_without_a_terminal_the_keyboard_is_left_alone() -> None:
    with quiet_keyboard():
        pass
