"""Reading prompts: from arguments, files and stdin, and from lines of JSON."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from helix_cli.commands.prompts import read_prompt, read_prompts
from helix_cli.errors import InputError
from helix_cli.prompt import Prompt


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts bytes on stdin; nothing is there before."""

    def put(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    put(b"")
    return put


def lines(folder: Path, text: str) -> Path:
    """A file with this text."""
    file = folder / "prompts.jsonl"
    file.write_text(text, encoding="utf-8")
    return file


def test_file_argument_and_stdin_follow_each_other(tmp_path: Path, pipe: Any) -> None:
    assert read_prompt("one", None, chat=False) == Prompt(0, "one")
    pipe("drei é\r\n".encode())
    assert read_prompt("one", lines(tmp_path, "two\n"), chat=False) == Prompt(0, "two\none\ndrei é")
    pipe(b"three\n\n")
    assert read_prompt("-", None, chat=False) == Prompt(0, "three\n")
    pipe(b"three")
    assert read_prompt(None, None, chat=True) == Prompt(0, messages=({"role": "user", "content": "three"},))


def test_spaces_of_a_prompt_are_kept(pipe: Any) -> None:
    assert read_prompt("  def f():\n    ", None, chat=False).text == "  def f():\n    "


def test_closed_stdin_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert read_prompt("one", None, chat=False).text == "one"
    with pytest.raises(InputError, match="There is no prompt"):
        read_prompt("-", None, chat=False)


@pytest.mark.parametrize("argument", [None, "", " \n", "-"])
def test_no_prompt(argument: str | None, pipe: Any) -> None:
    with pytest.raises(InputError, match="There is no prompt"):
        read_prompt(argument, None, chat=False)


def test_files_and_texts_that_cannot_be_read(tmp_path: Path, pipe: Any) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_prompt(None, tmp_path / "missing", chat=False)
    with pytest.raises(InputError, match="cannot be read"):
        read_prompt(None, tmp_path, chat=False)
    with pytest.raises(InputError, match="not valid Unicode"):
        read_prompt("\udcff", None, chat=False)
    pipe(b"\xff")
    with pytest.raises(InputError, match="stdin is not UTF-8 text"):
        read_prompt("one", None, chat=False)


def test_lines_of_json(tmp_path: Path) -> None:
    message = {"role": "user", "content": "hello"}
    file = lines(
        tmp_path,
        '\ufeff{"prompt": "one"}\r\n\n{"prompt": " two ", "id": ["a", 1], "max_tokens": 3, "priority": -1}\n'
        '{"messages": [{"role": "user", "content": "hello"}], "id": null}',
    )
    first, second, third = read_prompts(file, chat=False)
    assert first == Prompt(0, "one")
    assert second == Prompt(1, " two ", id=["a", 1], max_tokens=3, priority=-1)
    assert third == Prompt(2, messages=(message,))
    assert read_prompts(lines(tmp_path, '{"prompt": "hello"}'), chat=True) == [Prompt(0, messages=(message,))]


def test_lines_from_stdin(pipe: Any) -> None:
    pipe(b'{"prompt": "one"}\n{"prompt": "two"}\n')
    assert [prompt.text for prompt in read_prompts(Path("-"), chat=False)] == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON: "),
        ("[" * 100_000, "is not JSON"),
        ('{"prompt": "x", "id": NaN}', "is not JSON"),
        ('"text"', "is not an object"),
        ("{}", "needs either prompt or messages"),
        ('{"prompt": "x", "messages": []}', "needs either prompt or messages"),
        ('{"promt": "x"}', 'has an unknown key "promt"'),
        ('{"prompt": ""}', "has a prompt that is not a text or is empty"),
        ('{"prompt": 5}', "has a prompt that is not a text or is empty"),
        ('{"prompt": "\\ud800"}', "has a prompt that is not a text or is empty"),
        ('{"prompt": "x", "max_tokens": 0}', "has max_tokens 0"),
        ('{"prompt": "x", "max_tokens": true}', "has max_tokens true"),
        ('{"prompt": "x", "priority": 1.5}', "has priority 1.5"),
        ('{"messages": []}', "has messages that are not a list of messages"),
        ('{"messages": ["x"]}', "has a message that is not a role and a content"),
        ('{"messages": [{"role": "user"}]}', "has a message that is not a role and a content"),
        ('{"messages": [{"role": "me", "content": ""}]}', 'has a message with an unknown role "me"'),
        ('{"messages": [{"role": "user", "content": 5}]}', "has a message whose content is not a text"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = lines(tmp_path, '{"prompt": "good"}\n\n' + line + "\n")
    with pytest.raises(InputError) as error:
        read_prompts(file, chat=False)
    assert error.value.message.startswith(f"Line 3 of {file} {message}")
    assert error.value.hint


def test_chat_cannot_change_messages(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--chat cannot take effect"):
        read_prompts(lines(tmp_path, '{"messages": [{"role": "user", "content": "hi"}]}'), chat=True)


def test_file_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no prompt in .*prompts.jsonl"):
        read_prompts(lines(tmp_path, "\n \n"), chat=False)
