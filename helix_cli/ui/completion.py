"""Completion of slash commands and of the file names behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document


class SlashCompleter(Completer):
    """Completes the word after a slash at the start of a message, and a path where the command takes a file."""

    def __init__(self, commands: Mapping[str, bool]) -> None:
        """`commands` says of each command whether it takes a file name."""
        self._commands = commands
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """See `Completer`."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        if not space:
            for command in self._commands:
                if command.startswith(name):
                    yield Completion(command, start_position=-len(name))
        elif self._commands.get(name):
            yield from self._paths.get_completions(Document(argument.lstrip()), complete_event)
