"""The commands of a conversation, without a terminal."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from helix_cli.chat.chat import Chat
from helix_cli.chat.conversation import Conversation, Turn
from helix_cli.chat.slash import COMMANDS, Outcome, parse, run
from helix_cli.chat.storing import read_conversation
from helix_cli.errors import HelixError, InputError
from tests.chat.sessions import ask, open_chat, save_pair

SAID = [Turn("First?", "Yes."), Turn("Second?", "No.")]


@pytest.fixture(scope="module")
def only_chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    return open_chat(save_pair(tmp_path_factory.mktemp("pair")))[0]


@pytest.fixture
def chat(only_chat: Chat) -> Chat:
    """A conversation of two turns."""
    only_chat.restart(Conversation("Be brief.", list(SAID)), None)
    return only_chat


def obey(chat: Chat, line: str) -> Outcome:
    command = parse(line)
    assert command is not None
    return run(chat, *command)


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("/help", ("help", "")),
        ("  /SAVE  a file.json ", ("save", "a file.json")),
        ("/edit two\nlines", ("edit", "two\nlines")),
        ("/", ("", "")),
        ("//help", None),
        ("/usr/bin/env python", None),
        ("say /help", None),
        ("", None),
    ],
)
def test_what_is_a_command(line: str, parsed: tuple[str, str] | None) -> None:
    assert parse(line) == parsed


def test_help_names_every_command(chat: Chat) -> None:
    text = "\n".join(obey(chat, "/help").lines)
    assert all(f"/{name}" in text and command.help in text for name, command in COMMANDS.items())


def test_the_commands_of_the_manual_are_there() -> None:
    named = "help exit clear undo retry edit system set stats tokens save load file draft copy"
    assert set(named.split()) == set(COMMANDS)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("/hlep", "no command /hlep", "Did you mean /help?"),
        ("/xyzzy", "no command /xyzzy", "/help lists"),
        ("/", "no command /", "/help lists"),
        ("/save", "/save needs FILE", "/save FILE"),
        ("/exit now", "/exit takes no argument", "/exit alone"),
        ("/draft maybe", "on or off", "/draft on"),
        ("/set temprature 1", "no setting temprature", "Did you mean temperature?"),
        ("/set model other", "model.path cannot change", "start again"),
        ("/set cache.blocks 9", "cache.blocks cannot change", "start again"),
        ("/set chat.system Be brief.", "The system prompt is no setting", "Use /system."),
        ("/set .", "There is no setting .", "The settings are"),
        ("/set ngram_max 3", "There is no setting ngram_max", "Did you mean draft.ngram_max?"),
        ("/stats", "Nothing has been answered", "Ask"),
        ("/load missing.json", "missing.json cannot be read", "path"),
        ("/file missing.txt", "missing.txt cannot be read", "path"),
        ("/file /dev/zero", "may never end", "text file"),
        ("/load /dev/zero", "may never end", "text file"),
        ("/file a\0b", "is not a path", "whole path"),
        ("/load ~nobody-has-this-name/a.json", "is not a path", "whole path"),
        ("/system \udce9", "not valid Unicode", "UTF-8"),
        ("/save /dev/null/a.json", "/dev/null/a.json cannot be written", "another place"),
    ],
)
def test_mistakes_change_nothing_and_are_explained(chat: Chat, line: str, message: str, hint: str) -> None:
    with pytest.raises(HelixError) as caught:
        obey(chat, line)
    assert message in caught.value.message and hint in caught.value.hint
    assert chat.conversation == Conversation("Be brief.", SAID)


@pytest.mark.parametrize("line", ["/undo", "/retry", "/edit", "/edit x", "/copy"])
def test_nothing_to_go_back_to(chat: Chat, line: str) -> None:
    chat.restart(Conversation(), None)
    with pytest.raises(HelixError) as caught:
        obey(chat, line)
    assert "Ask something first." in caught.value.hint


def test_going_back(chat: Chat) -> None:
    assert obey(chat, "/retry").ask == "Second?"
    assert obey(chat, "/edit").edit == "Second?"
    assert obey(chat, "/edit Third?").ask == "Third?"
    assert obey(chat, "/copy").copy == "No."
    assert chat.conversation.turns == SAID
    assert obey(chat, "/undo").lines == ("Taken back: Second?",)
    assert chat.conversation.turns == SAID[:1]
    assert obey(chat, "/exit").leave


def test_a_retry_that_must_say_the_same_says_so(chat: Chat) -> None:
    assert "With seed 3" in obey(chat, "/retry").lines[0]
    obey(chat, "/set seed null")
    assert obey(chat, "/retry").lines == ()
    obey(chat, "/set temperature 0")
    assert "At temperature 0" in obey(chat, "/retry").lines[0]
    obey(chat, "/set temperature=1.0")
    obey(chat, "/set seed 3")


def test_settings_are_shown_and_changed(chat: Chat) -> None:
    shown = obey(chat, "/set").lines
    assert "temperature 1.0" in shown and "drafter model" in shown and "stop -" in shown and "top-k 0" in shown
    assert not [line for line in shown if line.startswith("model")]
    assert obey(chat, "/set k").lines == ("k auto",)
    assert obey(chat, "/set k 2").lines == ("k 2",)
    assert chat.session.info.k == 2
    obey(chat, "/set --k=4")
    assert chat.session.info.k == 4


def test_the_system_prompt(chat: Chat) -> None:
    assert obey(chat, "/system").lines == ("Be brief.",)
    obey(chat, "/system Be long.")
    assert chat.conversation.system == "Be long."
    obey(chat, "/system off")
    assert chat.conversation.system is None
    assert obey(chat, "/system").lines == ("There is no system prompt.",)


def test_tokens(chat: Chat) -> None:
    assert obey(chat, "/tokens").lines == (f"{chat.num_tokens()} of 256 tokens: 2 turns and a system prompt",)
    chat.conversation.first_seen = 1
    assert "1 older turn left out" in obey(chat, "/tokens").lines
    chat.restart(Conversation(), None)
    assert obey(chat, "/tokens").lines == ("0 of 256 tokens: 0 turns",)


def test_statistics_of_the_last_answer(chat: Chat) -> None:
    ask(chat, "And?")
    assert obey(chat, "/stats").show_stats


def test_saving_and_loading(chat: Chat, tmp_path: Path) -> None:
    file = tmp_path / "a b.json"
    obey(chat, f'/save "{file}"')
    assert read_conversation(file) == Conversation("Be brief.", SAID)
    with pytest.raises(HelixError, match="exists already"):
        obey(chat, f"/save {file}")
    obey(chat, "/undo")
    assert obey(chat, f"/load {file}").lines == ("Loaded 2 turns.",)
    assert chat.conversation == Conversation("Be brief.", SAID)


def test_a_full_disk_costs_the_copy_alone(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"copy.json cannot be written: No space left on device"):
        obey(chat, f"/save {tmp_path / 'copy.json'}")
    assert not list(tmp_path.iterdir())


def test_a_message_like_a_command_is_edited_as_one_writes_it(chat: Chat) -> None:
    for question, offered in (("/help me", "//help me"), ("//x", "///x"), ("/usr/bin is?", "/usr/bin is?")):
        chat.conversation.turns[-1] = Turn(question, "Yes.")
        assert obey(chat, "/edit").edit == offered
        assert parse(offered) is None


def test_a_kept_conversation_stays_when_another_begins(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIX_DATA_DIR", str(tmp_path))
    chat.file = tmp_path / "mine.json"
    chat.save()
    assert "mine.json" in obey(chat, "/clear").lines[0]
    assert chat.conversation == Conversation("Be brief.") and chat.file.parent == tmp_path / "chats"
    assert read_conversation(tmp_path / "mine.json").turns == SAID
    obey(chat, f"/load {tmp_path / 'mine.json'}")
    ask(chat, "And?")
    assert read_conversation(tmp_path / "mine.json").turns == SAID
    assert len(read_conversation(chat.file).turns) == 3


def test_a_file_is_counted(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the", encoding="utf-8")
    assert obey(chat, f"/file {tmp_path / 'notes.txt'}").lines == (
        f"notes.txt, {len(chat.session.tokenizer.encode_rendered('the'))} tokens, goes with your next message.",
    )
    chat.restart(Conversation(), None)


def test_colours_of_the_draft(chat: Chat) -> None:
    obey(chat, "/draft on")
    assert chat.show_draft
    obey(chat, "/draft off")
    assert not chat.show_draft
