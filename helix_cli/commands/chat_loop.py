"""Reads a message, shows its answer, and again; and what a terminal has to do for the commands of a conversation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from helix_cli.chat import slash, storing
from helix_cli.chat.chat import Chat
from helix_cli.commands.interrupt import raise_on_interrupt, stop_on_interrupt
from helix_cli.core import FinishedEvent, TextEvent
from helix_cli.errors import HelixError, InputError
from helix_cli.ui import console
from helix_cli.ui.clipboard import copy
from helix_cli.ui.console import Screen, notice
from helix_cli.ui.editor import Editor, LineReader, Reader, quiet_keyboard
from helix_cli.ui.markdown import MarkdownRenderer
from helix_cli.ui.progress import working
from helix_cli.ui.stream import Renderer, open_renderer, summary
from helix_cli.ui.tables import stats_table
from helix_cli.ui.turn import context_meter, turn_line

T = TypeVar("T")


@dataclass(frozen=True)
class Showing:
    """How answers are shown."""

    plain: bool
    json: bool
    stats: bool


@dataclass(frozen=True)
class _Message:
    """Something to ask; with `replace`, in place of the last turn."""

    text: str
    replace: bool = False


class ChatLoop:
    """A conversation between a chat and whoever writes; `attended` says that a person does, who can mend mistakes."""

    def __init__(self, chat: Chat, showing: Showing, attended: bool) -> None:
        self._chat = chat
        self._showing = showing
        self._attended = attended
        self._screen = Screen.detect()
        self._used = 0
        self._edited: str | None = None
        """The last question, while it is offered for editing."""
        self._warned = False
        """Whether the last thing that happened was a Ctrl-C."""

    def answer_once(self, question: str) -> bool:
        """Answers one question; returns whether the user interrupted. Raises HelixError."""
        interrupted = self._answer(_Message(question))
        self._chat.keep_prompt()
        return interrupted

    def run(self, first: str | None) -> bool:
        """Asks `first`, and then what is read, until the end; returns whether Ctrl-C ended it.

        Raises HelixError where nobody is there to mend it.
        """
        reader = self._reader()
        self._greet()
        message = None if first is None else _Message(first)
        try:
            with raise_on_interrupt():
                while True:
                    if message is not None:
                        self._try(partial(self._answer, message))
                    message = self._next(reader)
        except EOFError:
            return self._leave(False)
        except KeyboardInterrupt:
            return self._leave(True)

    def _reader(self) -> Reader:
        dumb = os.environ.get("TERM") == "dumb"
        if self._attended and self._screen.err_is_terminal and not dumb:
            commands = {name: command.takes_file for name, command in slash.COMMANDS.items()}
            return Editor(storing.data_directory() / "history", commands, self._meter)
        return LineReader(sys.stdin, self._screen.err if self._attended else None)

    def _meter(self, columns: int) -> str:
        return context_meter(self._used, self._chat.capacity, columns)

    def _next(self, reader: Reader) -> _Message | None:
        """What to ask next; None where a command, or nothing, was written."""
        self._used = self._chat.num_tokens()
        offered, self._edited = self._edited, None
        try:
            line = reader.read(offered or "")
        except KeyboardInterrupt:
            if self._warned:
                raise
            self._warned = True
            notice("Ctrl-C once more leaves, and so does Ctrl-D.")
            return None
        self._warned = False
        command = slash.parse(line)
        if command is not None:
            return self._try(partial(self._obey, *command))
        text = line[1:] if line.startswith("//") else line
        return _Message(text, replace=offered is not None) if text.strip() else None

    def _obey(self, name: str, argument: str) -> _Message | None:
        """Runs a command; returns what it asks. Raises HelixError, and EOFError to leave."""
        outcome = slash.run(self._chat, name, argument)
        if self._chat.show_draft and not self._screen.has_colours:
            self._chat.show_draft = False
            raise InputError("The draft's text cannot be coloured here.", "stdout has no colours.")
        for line in outcome.lines:
            notice(line)
        if outcome.show_stats and self._chat.last is not None:
            rich = self._screen.rich_err()
            # A person was typing between the start of the process and the first token.
            last = replace(self._chat.last, stats=replace(self._chat.last.stats, process_to_first_token_s=None))
            rich.print(stats_table(last, self._chat.session.info.to_dict(), rich.options.ascii_only))
        if outcome.copy is not None:
            notice(copy(outcome.copy, self._screen))
        if outcome.leave:
            raise EOFError
        self._edited = outcome.edit
        return None if outcome.ask is None else _Message(outcome.ask, replace=True)

    def _try(self, action: Callable[[], T]) -> T | None:
        """What `action` returns; a person reads what was wrong with it and goes on."""
        try:
            return action()
        except HelixError as error:
            if not self._attended:
                raise
            console.error(error.message, error.hint)
        except OSError as error:
            if not self._attended or error.filename is None:
                raise
            console.error(f"{error.filename} cannot be used: {error.strerror}.", "Check the path and its permissions.")
        return None

    def _answer(self, message: _Message) -> bool:
        """Streams one answer; returns whether the user interrupted it."""
        renderer = self._renderer()
        with (
            quiet_keyboard(),
            stop_on_interrupt(self._chat.session.interrupt) as interrupt,
            closing(self._chat.ask(message.text, message.replace)) as events,
            closing(renderer),
        ):
            if self._showing.json:
                renderer.started(self._chat.session.info.to_dict())
            with working("Reading"):
                event = next(events, None)
            while event is not None:
                if isinstance(event, TextEvent):
                    renderer.text(event)
                else:
                    renderer.finished(event)
                    self._show_stats(event)
                event = next(events, None)
        self._warned = interrupt.requested
        return interrupt.requested

    def _renderer(self) -> Renderer:
        can_draw = self._screen.has_colours and not self._screen.rich_out().legacy_windows
        if self._showing.json or self._showing.plain or self._chat.show_draft or not can_draw:
            return open_renderer(self._showing.json, self._chat.show_draft, False, self._screen)
        return MarkdownRenderer(self._screen)

    def _show_stats(self, event: FinishedEvent) -> None:
        if self._showing.stats and event.token_ids:
            self._quietly(turn_line(event))

    def _greet(self) -> None:
        if not self._attended:
            return
        self._quietly(summary(self._chat.session.info.to_dict()))
        turns = len(self._chat.conversation.turns)
        went_on = f"The conversation has {turns} turn{'' if turns == 1 else 's'} so far. " if turns else ""
        self._quietly(f"{went_on}/help lists the commands, Ctrl-D leaves.")

    def _leave(self, interrupted: bool) -> bool:
        if self._attended and self._chat.file is not None and self._chat.conversation.turns:
            self._quietly(f"Kept in {self._chat.file}; helix chat --continue takes it up.")
        self._chat.keep_prompt()
        return interrupted

    def _quietly(self, line: str) -> None:
        """A line on stderr that does not compete with the text."""
        from rich.text import Text

        if self._screen.is_lively:
            self._screen.rich_err().print(Text(console.visible(line), style="dim"))
        else:
            notice(line)
