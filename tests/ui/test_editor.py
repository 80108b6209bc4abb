"""Reading messages without a terminal; tests/commands/test_chat_terminal.py drives the editor on one."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from helix_cli.errors import InputError
from helix_cli.ui.completion import SlashCompleter
from helix_cli.ui.editor import LineReader, _history, quiet_keyboard
from helix_cli.ui.multiline import is_open, unquoted


def test_lines_and_blocks() -> None:
    text = 'one\r\n\n"""two\n\n  three\n"""\n"""four"""\n"""never closed\n'
    reader = LineReader(io.StringIO(text), None)
    said = ["one", "", "two\n\n  three", "four", "never closed"]
    assert [reader.read() for _ in said] == said
    with pytest.raises(EOFError):
        reader.read()


def test_what_is_no_text_is_refused() -> None:
    reader = LineReader(io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"), None)
    with pytest.raises(InputError, match="not UTF-8"):
        reader.read()


def test_a_history_that_cannot_be_written_costs_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = _history(tmp_path / "history")
    history.append_string("kept")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("prompt_toolkit.history.FileHistory.store_string", full)
    history.append_string("not kept")
    assert history.get_strings()[-1] == "not kept"
    assert list(_history(tmp_path / "history").load_history_strings()) == ["kept"]


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
