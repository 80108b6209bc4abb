"""`helix generate`: text from one prompt, streamed, or from a file of many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from helix_cli.commands.batch import run_batch
from helix_cli.commands.interrupt import stop_on_interrupt
from helix_cli.commands.loading import load_session
from helix_cli.commands.prompts import read_prompt
from helix_cli.commands.settings import Choices, check_together, with_settings
from helix_cli.core import TextEvent
from helix_cli.errors import INTERRUPTED, ConfigError
from helix_cli.phases import Phases
from helix_cli.ui.console import notice
from helix_cli.ui.stream import Renderer, open_renderer

if TYPE_CHECKING:
    from helix_cli.config import Config
    from helix_cli.prompt import Prompt

NEEDS: Final = (("--output", "--input"), ("--resume", "--output"))
"""The first option cannot take effect without the second."""

EXCLUDES: Final = (
    ("PROMPT", "--input"),
    ("--file", "--input"),
    ("--json", "--input"),
    ("--no-stats", "--input"),
    ("--show-draft", "--input"),
    ("--no-stats", "--json"),
    ("--show-draft", "--json"),
)
"""The first cannot take effect together with the second."""


def _option(flag: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=help, metavar=metavar, rich_help_panel="Input and output")


@with_settings
def generate(
    context: typer.Context,
    choices: Choices,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="The text to continue; - reads it from stdin. Piped text is added to it."
        ),
    ] = None,
    file: Annotated[Path | None, _option("--file", "A text file to put before the prompt.", "FILE")] = None,
    source: Annotated[
        Path | None,
        _option(
            "--input",
            'Many prompts, one JSON object a line: "prompt" or "messages", and "id", "max_tokens", "priority" if need '
            "be; - is stdin.",
            "FILE",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        _option("--output", "Where results of --input go, one JSON object a line; without it, to stdout.", "FILE"),
    ] = None,
    resume: Annotated[
        bool, _option("--resume", "Keep the results in --output and add those that are missing.")
    ] = False,
    chat: Annotated[bool, _option("--chat", "Ask the prompt as a user, in the model's chat template.")] = False,
    as_json: Annotated[bool, _option("--json", "Write events instead of text, one JSON object a line.")] = False,
    no_stats: Annotated[bool, _option("--no-stats", "Leave out the statistics.")] = False,
    show_draft: Annotated[bool, _option("--show-draft", "Mark the text that the draft proposed.")] = False,
) -> None:
    """Continue a prompt, or answer a message, and say how fast it went.

    The text goes to stdout, everything else to stderr. Ctrl-C ends the text and still prints the statistics.
    """
    given = {
        "PROMPT": prompt is not None,
        "--file": file is not None,
        "--input": source is not None,
        "--output": output is not None,
        "--resume": resume,
        "--json": as_json,
        "--no-stats": no_stats,
        "--show-draft": show_draft,
    }
    check_together({name for name, is_given in given.items() if is_given}, NEEDS, EXCLUDES)
    phases = context.ensure_object(Phases)
    phases.end("import")
    config = choices.load(notice)
    check_takes_effect(choices, config, chat=chat or source is not None)
    phases.end("config")
    if source is not None:
        interrupted = run_batch(config, source, output, phases, resume=resume, chat=chat)
    else:
        one = read_prompt(prompt, file, chat)
        phases.end("prompt")
        interrupted = run_one(config, one, open_renderer(as_json, show_draft, not no_stats), phases)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def check_takes_effect(choices: Choices, config: Config, *, chat: bool) -> None:
    """Raises ConfigError for a setting of the command line that is for conversations, where there is none."""
    if any(override.startswith("chat.") for override in choices.overrides):
        raise ConfigError("The chat section takes effect in `helix chat` alone.", "Leave it out, or use `helix chat`.")
    if (
        config.model.template is not None
        and not chat
        and any(o.startswith("model.template") for o in choices.overrides)
    ):
        raise ConfigError("--template cannot take effect without a conversation.", "Add --chat.")


def run_one(config: Config, prompt: Prompt, renderer: Renderer, phases: Phases) -> bool:
    """Streams one prompt's text to `renderer`; returns whether the user interrupted."""
    session = load_session(config, [prompt], phases)
    with stop_on_interrupt(session.interrupt) as interrupt:
        try:
            renderer.started(session.info.to_dict())
            for event in session.stream([prompt]):
                if isinstance(event, TextEvent):
                    renderer.text(event)
                else:
                    renderer.finished(event)
        finally:
            renderer.close()
        for note in session.keep(prompt):
            notice(note)
    return interrupt.requested
