"""Conversations on disk."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from helix_cli.chat.conversation import Conversation, Turn
from helix_cli.chat.storing import latest_file, new_file, read_conversation, write_conversation
from helix_cli.errors import InputError

SAID = Conversation("Be brief.", [Turn("Ça va? 😀", "Oui\n"), Turn("And?", "")])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.json"
    write_conversation(file, SAID, "org/model")
    assert read_conversation(file) == SAID
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["model"] == "org/model" and content["messages"][1] == {"role": "user", "content": "Ça va? 😀"}
    assert [one["role"] for one in content["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir()] == ["a.json"]


def test_a_list_of_messages_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(SAID.messages()), encoding="utf-8")
    assert read_conversation(file) == SAID
    file.write_text("[]", encoding="utf-8")
    assert read_conversation(file) == Conversation()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    write_conversation(file, SAID, "m")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_conversation(file, Conversation(), "m")
    assert read_conversation(file) == SAID and [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_the_latest_is_the_one_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIX_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match="no conversation"):
        latest_file()
    assert new_file().parent == tmp_path / "chats"
    for name, age in (("b", 100), ("a", 50)):
        file = tmp_path / "chats" / f"{name}.json"
        write_conversation(file, SAID, "m")
        os.utime(file, (age, 1000 - age))
    assert latest_file().name == "a.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("3", "holds no messages"),
        ('{"messages": 3}', "holds no messages"),
        ('[{"role": "user"}]', "Message 1 of"),
        ('["x"]', "Message 1 of"),
        (r'[{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": "x"}]', "not valid Unicode"),
        ('[{"role": "user", "content": "x"}]', "in turn"),
        ('[{"role": "tool", "content": "x"}, {"role": "assistant", "content": "x"}]', "in turn"),
    ],
)
def test_what_cannot_be_taken_up_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_conversation(file)
    assert caught.value.hint
