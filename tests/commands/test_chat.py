"""`helix chat` in scripts: one question, a pipe of questions, what is kept, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from helix_cli.app import load_command
from helix_cli.chat.conversation import Conversation, Turn
from helix_cli.chat.storing import read_conversation, write_conversation
from helix_cli.commands.settings import OPTIONS
from tests.commands.fakes import Helix, conversation, fails

SAID = Conversation("Be brief.", [Turn("first", "FIRST")])


@pytest.fixture
def helix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Helix:
    """The program with sessions that need no model, and an empty data directory."""
    monkeypatch.setenv("HELIX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return Helix(monkeypatch)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A conversation on disk, the last one of the data directory."""
    file = tmp_path / "data" / "chats" / "old.json"
    write_conversation(file, SAID, "m")
    return file


def asked(helix: Helix) -> list[str]:
    """What the model read, question by question."""
    return [conversation(prompt) for prompt in helix.sessions[-1].seen]


def test_one_question_of_a_script(helix: Helix, tmp_path: Path) -> None:
    result = helix("chat", "--once", "hello there")
    assert (result.exit_code, result.stdout) == (0, "HELLO THERE\n")
    assert result.stderr == "3 tokens, 20.0 tok/s, first token 200 ms, 50 % of the draft accepted\n"
    assert asked(helix) == ["<user>hello there<assistant>"]
    assert not (tmp_path / "data").exists(), "scripts keep nothing"


def test_the_question_may_come_from_stdin_and_from_a_file(helix: Helix, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the notes\n", encoding="utf-8")
    assert helix("chat", "--once", "--no-stats", stdin="hello\n").stdout == "HELLO\n"
    assert helix("chat", "--once", "what is this?", "--no-stats", stdin="a\nb\n").exit_code == 0
    assert asked(helix) == ["<user>what is this?\na\nb<assistant>"]
    result = helix("chat", "--once", "what is this?", "--file", "notes.txt", "--no-stats")
    assert (result.exit_code, result.stderr) == (0, "")
    assert asked(helix) == ["<user>notes.txt:\nthe notes\n\nwhat is this?<assistant>"]


def test_a_file_may_be_a_pipe(helix: Helix, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("the notes",), daemon=True)
    writer.start()
    assert helix("chat", "--once", "what is this?", "--file", "pipe", "--no-stats").exit_code == 0
    writer.join(timeout=10)
    assert asked(helix) == ["<user>pipe:\nthe notes\n\nwhat is this?<assistant>"]


def test_events_are_lines_of_json(helix: Helix) -> None:
    result = helix("chat", "--once", "one two", "--json", "--k", "3")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "text", "text", "finished"]
    assert events[-1]["text"] == "ONE TWO" and events[0]["config"]["draft"]["k"] == 3 and result.stderr == ""


def test_each_line_of_a_pipe_is_a_question_or_a_command(helix: Helix) -> None:
    text = 'one\n/tokens\n\n//two\n"""three\nfour"""\n/retry\n/undo\n/exit\nnever\n'
    result = helix("chat", "zero", "--no-stats", stdin=text)
    assert (result.exit_code, result.stdout) == (0, "ZERO\nONE\n/TWO\nTHREE\nFOUR\nTHREE\nFOUR\n")
    assert "of 1,024 tokens: 2 turns" in result.stderr and "Taken back: three four" in result.stderr
    assert asked(helix)[1] == "<user>zero<assistant>ZERO<user>one<assistant>"
    assert asked(helix)[-1] == asked(helix)[-2]


def test_a_mistake_in_a_pipe_ends_it(helix: Helix) -> None:
    result = helix("chat", "--no-stats", stdin="one\n/hlep\ntwo\n")
    assert (result.exit_code, result.stdout) == (2, "ONE\n")
    assert result.stderr == (
        "Error: There is no command /hlep.\nHint: Did you mean /help? A message may begin with // instead.\n"
    )


def test_settings_of_the_command_line_and_of_the_conversation(helix: Helix) -> None:
    helix("chat", "--max-tokens", "9", "--no-stats", stdin="a\n/set max-tokens 5\n/set seed 3\nb\n")
    session = helix.sessions[-1]
    assert [prompt.max_tokens for prompt in session.seen] == [9, 5]
    assert session.config.sampling.seed == 3


@pytest.mark.parametrize("source", ["option", "file", "config", "config file", "option over config"])
def test_the_system_prompt(helix: Helix, tmp_path: Path, source: str) -> None:
    (tmp_path / "s.txt").write_text("Be brief.\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text("chat: {system: Be brief.}\n", encoding="utf-8")
    (tmp_path / "d.yaml").write_text("chat: {system_file: s.txt}\n", encoding="utf-8")
    options = {
        "option": ("--system", "Be brief."),
        "file": ("--system-file", "s.txt"),
        "config": ("--config", "c.yaml"),
        "config file": ("--config", "d.yaml"),
        "option over config": ("--config", "c.yaml", "--system", "Be brief."),
    }
    assert helix("chat", "--once", "hi", *options[source]).exit_code == 0
    assert asked(helix) == ["<system>Be brief.<user>hi<assistant>"]


def test_a_conversation_is_kept_where_it_is_asked_to_be(helix: Helix, tmp_path: Path) -> None:
    assert helix("chat", "--once", "hi", "--save", "a.json").exit_code == 0
    assert read_conversation(tmp_path / "a.json").turns == [Turn("hi", "HI")]
    assert helix("chat", "--load", "a.json", "--save", "a.json", stdin="two\nthree\n").exit_code == 0
    assert [turn.question for turn in read_conversation(tmp_path / "a.json").turns] == ["hi", "two", "three"]
    assert asked(helix)[0] == "<user>hi<assistant>HI<user>two<assistant>"
    helix("chat", "--once", "four", "--load", "a.json")
    assert len(read_conversation(tmp_path / "a.json").turns) == 3, "the loaded file is left alone"
    fails(helix("chat", "--once", "x", "--save", "a.json"), "a.json exists already", "--load")


def test_the_last_conversation_goes_on(helix: Helix, kept: Path) -> None:
    assert helix("chat", "--continue", "--once", "second").exit_code == 0
    assert asked(helix) == ["<system>Be brief.<user>first<assistant>FIRST<user>second<assistant>"]
    assert [turn.question for turn in read_conversation(kept).turns] == ["first", "second"]
    helix("chat", "--continue", "--system", "Be long.", "--once", "third")
    assert read_conversation(kept).system == "Be long."


def test_ctrl_c_keeps_what_was_said(helix: Helix, kept: Path) -> None:
    helix.before = lambda place: signal.raise_signal(signal.SIGINT) if place == 2 else None
    result = helix("chat", "--continue", "--once", "one two three four")
    assert (result.exit_code, result.stdout) == (130, "ONE TWO\n") and "stopped" in result.stderr
    assert read_conversation(kept).turns[-1] == Turn("one two three four", "ONE TWO")


def test_a_second_ctrl_c_leaves_at_once_and_keeps_it_too(helix: Helix, kept: Path) -> None:
    def twice(place: int) -> None:
        if place == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    helix.before = twice
    result = helix("chat", "--continue", stdin="one two three four\nfive\n")
    assert (result.exit_code, result.stdout) == (130, "ONE TWO\n")
    assert read_conversation(kept).turns[-1] == Turn("one two three four", "ONE TWO")


def test_a_pipe_goes_on_after_one_ctrl_c(helix: Helix) -> None:
    helix.before = lambda place: signal.raise_signal(signal.SIGINT) if place == 1 else None
    result = helix("chat", "--no-stats", stdin="one two\nfive\n")
    assert (result.exit_code, result.stdout) == (0, "ONE\nFIVE\n")


def test_help_has_every_option() -> None:
    options = {name for parameter in load_command("chat").params for name in parameter.opts}
    own = "--once --file --system --system-file --continue --load --save --plain --json --no-stats --show-draft"
    assert options >= {*own.split(), "--config", "--set", *OPTIONS}
    assert all(parameter.help for parameter in load_command("chat").params)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--once"], "There is no prompt.", "Write one"),
        (["--once", " "], "There is no prompt.", "Write one"),
        (["x", "--json"], "--json cannot take effect without --once.", "Add --once"),
        (["--continue", "--load", "f"], "--continue cannot take effect together with --load.", "Leave one"),
        (["--continue", "--save", "f"], "--continue cannot take effect together with --save.", "Leave one"),
        (["--system", "a", "--system-file", "f"], "--system cannot take effect together with --system-file.", "Leave"),
        (["--plain", "--show-draft"], "--plain cannot take effect together with --show-draft.", "Leave one"),
        (["--continue"], "There is no conversation to continue.", "helix chat"),
        (["--load", "missing"], "missing cannot be read", "Check the path"),
        (["--file", "missing"], "missing cannot be read", "Check the path"),
        (["--system-file", "missing"], "missing cannot be read", "Check the path"),
        (["--k", "99"], "draft.k must be auto or a whole number from 0 to 64", "draft.k: The most"),
        (["--set", "chat.sistem=x"], "There is no setting chat.sistem.", "Did you mean chat.system?"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(
    helix: Helix, arguments: list[str], message: str, hint: str
) -> None:
    fails(helix("chat", *arguments), message, hint)
    assert not helix.sessions


def test_conversation_settings_belong_to_conversations(helix: Helix, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("chat: {system: Be brief.}\nmodel: {template: t.jinja}\n", encoding="utf-8")
    assert helix("generate", "x", "--config", "c.yaml").exit_code == 0
    fails(helix("generate", "x", "--set", "chat.system=y"), "The chat section takes effect in `helix chat` alone.")
    fails(helix("generate", "x", "--template", "t.jinja"), "--template cannot take effect without a conversation.")
    assert helix("generate", "x", "--template", "t.jinja", "--chat").exit_code == 0
