"""`helix chat`: a conversation on a terminal, over a pipe, or one question of a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from helix_cli.chat import storing
from helix_cli.chat.chat import Chat
from helix_cli.chat.conversation import Conversation, conversation_messages
from helix_cli.chat.settings import Settings
from helix_cli.commands.chat_loop import ChatLoop, Showing
from helix_cli.commands.loading import load_session
from helix_cli.commands.prompts import read_prompt
from helix_cli.commands.settings import OPTIONS, Choices, check_together, with_settings
from helix_cli.errors import INTERRUPTED, InputError
from helix_cli.phases import Phases
from helix_cli.prompt import Prompt, read_text
from helix_cli.ui.console import notice

if TYPE_CHECKING:
    from helix_cli.config import Config

NEEDS: Final = (("--json", "--once"),)
EXCLUDES: Final = (
    ("--continue", "--load"),
    ("--continue", "--save"),
    ("--system", "--system-file"),
    ("--no-stats", "--json"),
    ("--show-draft", "--json"),
    ("--plain", "--json"),
    ("--plain", "--show-draft"),
)


def _option(flag: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=help, metavar=metavar, rich_help_panel="Conversation")


@with_settings
def chat(
    context: typer.Context,
    choices: Choices,
    prompt: Annotated[str | None, typer.Argument(metavar="QUESTION", help="The first question.")] = None,
    once: Annotated[
        bool, _option("--once", "Answer one question and leave; without QUESTION, or after it, stdin is read.")
    ] = False,
    file: Annotated[Path | None, _option("--file", "Add a text file to the first question.", "FILE")] = None,
    system: Annotated[
        str | None, _option("--system", "The system prompt: what the model is told first.", "TEXT")
    ] = None,
    system_file: Annotated[
        Path | None, _option("--system-file", "A text file that holds the system prompt.", "FILE")
    ] = None,
    continue_: Annotated[bool, _option("--continue", "Take up the conversation that was held last.")] = False,
    load: Annotated[Path | None, _option("--load", "Take up the conversation in this file.", "FILE")] = None,
    save: Annotated[
        Path | None,
        _option("--save", "Keep the conversation in this file, written after each answer; --load reads it.", "FILE"),
    ] = None,
    plain: Annotated[bool, _option("--plain", "Show answers as they are, not as rendered Markdown.")] = False,
    as_json: Annotated[bool, _option("--json", "Write events, one JSON object a line; only with --once.")] = False,
    no_stats: Annotated[bool, _option("--no-stats", "Leave out the line of statistics below each answer.")] = False,
    show_draft: Annotated[bool, _option("--show-draft", "Colour the text that the draft proposed.")] = False,
) -> None:
    """Talk with a model, turn by turn; a turn costs its new tokens only.

    /help lists the commands of a conversation. Ctrl-C stops an answer and keeps what was said, twice leaves; Ctrl-D
    leaves. From a pipe, each line is a question. Conversations on a terminal are kept in the user's data directory, or
    in $HELIX_DATA_DIR; those of --once and of a pipe only with --save or --continue.
    """
    given = {
        "--once": once,
        "--system": system is not None,
        "--system-file": system_file is not None,
        "--continue": continue_,
        "--load": load is not None,
        "--save": save is not None,
        "--plain": plain,
        "--json": as_json,
        "--no-stats": no_stats,
        "--show-draft": show_draft,
    }
    check_together({name for name, is_given in given.items() if is_given}, NEEDS, EXCLUDES)
    phases = context.ensure_object(Phases)
    phases.end("import")
    settings = Settings(choices.file, choices.overrides, {flag[2:]: key for flag, (key, _) in OPTIONS.items()}, notice)
    phases.end("config")
    attended = sys.stdin is not None and sys.stdin.isatty() and not once
    conversation, kept_in = _conversation(continue_, load, save, attended)
    conversation.system = _system(settings.config, system, system_file) or conversation.system
    question = read_prompt(prompt, None, chat=False).text if once else prompt
    # Read once: a pipe, as of `--file <(command)`, has its text only once.
    content = None if file is None else read_text(file)
    check = "\n".join(part for part in (content, question or "Hello") if part)
    phases.end("prompt")
    opening = Prompt(0, messages=tuple(conversation_messages(conversation.system, [], check)))
    session = load_session(settings.config, [opening], phases)
    one = Chat(session, settings, conversation, kept_in, notice)
    one.show_draft = show_draft
    if file is not None and content is not None:
        one.attach(file.name, content)
    loop = ChatLoop(one, Showing(plain=plain, json=as_json, stats=not (no_stats or as_json)), attended)
    if loop.answer_once(question) if question is not None and once else loop.run(question):
        raise typer.Exit(INTERRUPTED)


def _conversation(
    take_up: bool, load: Path | None, save: Path | None, attended: bool
) -> tuple[Conversation, Path | None]:
    """The conversation to go on with and the file that keeps it. Raises InputError."""
    if save is not None and save.exists() and (load is None or not load.exists() or not save.samefile(load)):
        raise InputError(f"{save} exists already.", "Name another file for --save, or go on with this one by --load.")
    if take_up:
        file = storing.latest_file()
        return storing.read_conversation(file), file
    conversation = Conversation() if load is None else storing.read_conversation(load)
    return conversation, save or (storing.new_file() if attended else None)


def _system(config: Config, text: str | None, file: Path | None) -> str | None:
    """The system prompt of the command line, else of the config."""
    chosen = config.chat
    if text is not None or file is not None:
        return text if file is None else read_text(file).strip()
    return read_text(Path(chosen.system_file)).strip() if chosen.system_file is not None else chosen.system
