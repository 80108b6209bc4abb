"""The commands of a conversation: each is a function from the chat and an argument to an `Outcome`, listed below."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from helix_cli.chat import storing
from helix_cli.chat.chat import Chat
from helix_cli.chat.conversation import Conversation
from helix_cli.errors import InputError
from helix_cli.prompt import read_text
from helix_cli.ui.tables import counted


@dataclass(frozen=True)
class Outcome:
    """What a command wants done by whoever has the terminal."""

    lines: tuple[str, ...] = ()
    """To be shown."""
    ask: str | None = None
    """To be asked now, in place of the last turn."""
    edit: str | None = None
    """To be offered for editing; what comes of it takes the place of the last turn."""
    copy: str | None = None
    """For the clipboard."""
    show_stats: bool = False
    """The statistics of the last answer."""
    leave: bool = False


@dataclass(frozen=True)
class Command:
    """A slash command: what it does in words, what its argument is called, and the function."""

    help: str
    run: Callable[[Chat, str], Outcome]
    argument: str = ""
    takes_file: bool = False

    @property
    def needs_none(self) -> bool:
        """Whether an argument would be ignored."""
        return not self.argument


def parse(line: str) -> tuple[str, str] | None:
    """The name and the argument of a command; None for a message. `//x` is the message `/x`, a path is one too."""
    match = re.fullmatch(r"/([A-Za-z?-]*)(?:\s+(.*))?", line.strip(), re.DOTALL)
    return (match[1].lower(), (match[2] or "").strip()) if match else None


def escaped(message: str) -> str:
    """What has to be written so that `message` is asked and not obeyed."""
    return f"/{message}" if parse(message) is not None or message.startswith("//") else message


def run(chat: Chat, name: str, argument: str) -> Outcome:
    """Runs a command. Raises InputError, with the nearest, for one that there is not, and what the command raises."""
    command = COMMANDS.get(name)
    if command is None:
        close = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        known = f"Did you mean /{close[0]}?" if close else "/help lists the commands."
        raise InputError(f"There is no command /{name}.", f"{known} A message may begin with // instead.")
    if argument and command.needs_none:
        raise InputError(f"/{name} takes no argument.", f"Write /{name} alone.")
    if not argument and command.argument and not command.argument.startswith("["):
        raise InputError(f"/{name} needs {command.argument}.", f"Write /{name} {command.argument}.")
    return command.run(chat, argument)


def _help(chat: Chat, argument: str) -> Outcome:
    shown = {f"/{name} {command.argument}".strip(): command.help for name, command in COMMANDS.items()}
    width = max(map(len, shown))
    keys = "Alt-Enter begins a new line, and so does Enter between two lines of three double quotes. "
    return Outcome(
        (
            *(f"{usage:<{width}}  {text}" for usage, text in shown.items()),
            f"{keys}Ctrl-C stops an answer, twice leaves; Ctrl-D leaves.",
        )
    )


def _exit(chat: Chat, argument: str) -> Outcome:
    return Outcome(leave=True)


def _clear(chat: Chat, argument: str) -> Outcome:
    kept = f"; the old one is in {chat.file}" if chat.file and chat.conversation.turns else ""
    file = storing.new_file() if chat.file and chat.conversation.turns else chat.file
    chat.restart(Conversation(chat.conversation.system), file)
    return Outcome((f"A new conversation{kept}.",))


def _undo(chat: Chat, argument: str) -> Outcome:
    turn = chat.conversation.pop()
    chat.save()
    return Outcome((f"Taken back: {_short(turn.question)}",))


def _retry(chat: Chat, argument: str) -> Outcome:
    question = _last_question(chat)
    params = chat.session.params
    if params.temperature == 0 or params.seed is not None:
        why = "At temperature 0" if params.temperature == 0 else f"With seed {params.seed}"
        return Outcome((f"{why} the answer is the same again; /set can change that.",), ask=question)
    return Outcome(ask=question)


def _edit(chat: Chat, argument: str) -> Outcome:
    question = _last_question(chat)
    # A message that looks like a command was written with one more slash, and is offered so.
    return Outcome(ask=argument) if argument else Outcome(edit=escaped(question))


def _system(chat: Chat, argument: str) -> Outcome:
    if not argument:
        return Outcome((chat.conversation.system or "There is no system prompt.",))
    chat.set_system(None if argument == "off" else argument)
    chat.save()
    return Outcome(("The system prompt is off." if argument == "off" else "The system prompt is set.",))


def _set(chat: Chat, argument: str) -> Outcome:
    name, _, value = argument.replace("=", " ", 1).partition(" ")
    if not name:
        return Outcome(tuple(_setting(chat, name) for name in chat.settings.changeable))
    chat.settings.key(name)
    if value.strip():
        chat.change(name, value.strip())
    return Outcome((_setting(chat, name),))


def _stats(chat: Chat, argument: str) -> Outcome:
    if chat.last is None:
        raise InputError("Nothing has been answered yet.", "Ask something first.")
    return Outcome(show_stats=True)


def _tokens(chat: Chat, argument: str) -> Outcome:
    conversation, used = chat.conversation, chat.num_tokens()
    system = " and a system prompt" if conversation.system else ""
    lines = [f"{used:,} of {chat.capacity:,} tokens: {counted(len(conversation.seen), 'turn')}{system}"]
    if conversation.first_seen:
        lines.append(f"{counted(conversation.first_seen, 'older turn')} left out")
    return Outcome(tuple(lines))


def _save(chat: Chat, argument: str) -> Outcome:
    file = _path(argument)
    try:
        if file.exists() and file != chat.file:
            raise InputError(f"{file} exists already.", "Name another file.")
        storing.write_conversation(file, chat.conversation, chat.session.info.target)
    except OSError as error:
        # A disk that is full names no file, and a folder that takes nothing a temporary one.
        reason = error.strerror or type(error).__name__
        raise InputError(f"{file} cannot be written: {reason}.", "Name another place.") from None
    return Outcome((f"Saved to {file}.",))


def _load(chat: Chat, argument: str) -> Outcome:
    conversation = storing.read_conversation(_file_to_read(argument))
    chat.restart(conversation, storing.new_file() if chat.file else None)
    return Outcome((f"Loaded {counted(len(conversation.turns), 'turn')}.",))


def _file(chat: Chat, argument: str) -> Outcome:
    file = _file_to_read(argument)
    num_tokens = chat.attach(file.name, read_text(file))
    return Outcome((f"{file.name}, {counted(num_tokens, 'token')}, goes with your next message.",))


def _draft(chat: Chat, argument: str) -> Outcome:
    if argument not in ("on", "off"):
        raise InputError(f"/draft takes on or off, not {argument}.", "Write /draft on.")
    chat.show_draft = argument == "on"
    return Outcome(("The draft's text is coloured.",) if chat.show_draft else ("Answers are shown as Markdown.",))


def _copy(chat: Chat, argument: str) -> Outcome:
    if not chat.conversation.turns:
        raise InputError("There is no answer to copy.", "Ask something first.")
    return Outcome(copy=chat.conversation.turns[-1].answer)


COMMANDS: Final[dict[str, Command]] = {
    "help": Command("List the commands.", _help),
    "exit": Command("Leave.", _exit),
    "clear": Command("Begin a new conversation with the same system prompt.", _clear),
    "undo": Command("Take the last question and its answer back.", _undo),
    "retry": Command("Answer the last question once more.", _retry),
    "edit": Command("Change the last question and ask it again.", _edit, "[TEXT]"),
    "system": Command("Show or set the system prompt; off removes it.", _system, "[TEXT]"),
    "set": Command("Show or change settings: temperature, k, drafter, max-tokens, ...", _set, "[NAME VALUE]"),
    "stats": Command("Show all statistics of the last answer.", _stats),
    "tokens": Command("Say how full the context is.", _tokens),
    "save": Command("Save a copy of the conversation.", _save, "FILE", takes_file=True),
    "load": Command("Go on with a saved conversation.", _load, "FILE", takes_file=True),
    "file": Command("Add a text file to the next message.", _file, "PATH", takes_file=True),
    "draft": Command("Colour the text that the draft proposed.", _draft, "on|off"),
    "copy": Command("Copy the last answer to the clipboard.", _copy),
}
"""Name -> command. A new one is a function above and a line here; help and completion find it by themselves."""


def _setting(chat: Chat, name: str) -> str:
    """`temperature 0.8`; where the config is silent, what the model itself asks for."""
    section, _, key = chat.settings.key(name).partition(".")
    value = chat.settings.value(name)
    if value is None and section == "sampling":
        value = getattr(chat.session.params, key, None)
    return f"{name} {'-' if value in (None, (), []) else value}"


def _last_question(chat: Chat) -> str:
    if not chat.conversation.turns:
        raise InputError("Nothing has been asked yet.", "Ask something first.")
    return chat.conversation.turns[-1].question


def _path(argument: str) -> Path:
    """The file that was named. Raises InputError for a name that no file can have, and for the home of nobody."""
    if "\0" not in argument:
        with suppress(RuntimeError):
            return Path(argument.strip("\"'")).expanduser()
    raise InputError(f"{argument} is not a path.", "Write the whole path.")


def _file_to_read(argument: str) -> Path:
    """The file that was named. Raises InputError for what may never end."""
    file = _path(argument)
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise InputError(f"{file} is a device or a pipe, which may never end.", "Name a text file.")
    return file


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."
