"""Where a person writes: a line editor on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from helix_cli.errors import InputError
from helix_cli.ui.multiline import is_open, unquoted

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "> "


class Reader(Protocol):
    """Reads messages."""

    def read(self, prefill: str = "") -> str:
        """The next message. Raises EOFError at the end, KeyboardInterrupt on Ctrl-C, InputError for what is no text."""


class LineReader:
    """Lines of a pipe, or of a terminal that can do no more; with a prompt on stderr where somebody sees it."""

    def __init__(self, source: TextIO, prompt_to: TextIO | None) -> None:
        """Read from `source`."""
        self._source = source
        self._prompt_to = prompt_to

    def read(self, prefill: str = "") -> str:
        """See `Reader`; a text to edit is shown above the prompt."""
        if prefill and self._prompt_to is not None:
            self._prompt_to.write(prefill + "\n")
        text = self._line(PROMPT)
        with suppress(EOFError):  # The end closes quotes too, so that nothing is lost in silence.
            while is_open(text):
                text += "\n" + self._line("  ")
        return unquoted(text)

    def _line(self, prompt: str) -> str:
        if self._prompt_to is not None:
            self._prompt_to.write(prompt)
            self._prompt_to.flush()
        try:
            line = self._source.readline()
        except UnicodeDecodeError:
            raise InputError("What was written is not UTF-8 text.", "Convert it to UTF-8 first.") from None
        if not line:
            raise EOFError
        return line.removesuffix("\n").removesuffix("\r")


class Editor:
    """prompt_toolkit on stderr: history over sessions, several lines, completion, a meter in the right margin."""

    def __init__(self, history: Path, commands: Mapping[str, bool], meter: Callable[[int], str]) -> None:
        """`commands` says of each slash command whether a file name follows; `meter` gets the number of columns."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.application import get_app
        from prompt_toolkit.output import create_output

        from helix_cli.ui.completion import SlashCompleter

        output = create_output(stdout=sys.stderr)
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            history=_history(history),
            multiline=True,
            prompt_continuation="  ",
            key_bindings=_keys(),
            completer=SlashCompleter(commands),
            complete_while_typing=True,
            reserve_space_for_menu=4,
            enable_open_in_editor=True,
            rprompt=lambda: "" if get_app().is_done else meter(output.get_size().columns),
            output=output,
        )

    def read(self, prefill: str = "") -> str:
        """See `Reader`."""
        return unquoted(self._session.prompt(default=prefill))


@contextmanager
def quiet_keyboard() -> Iterator[None]:
    """Inside, what is typed is not shown, so that it cannot disturb text that is being written; it is not lost."""
    try:
        import termios

        file = sys.stdin.fileno()
        before = termios.tcgetattr(file)
    except (ImportError, OSError, ValueError, termios.error):
        yield
        return
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(file, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def _history(file: Path) -> History:
    """What was typed in earlier conversations; of this one alone where the file cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class KeptHistory(FileHistory):
        def store_string(self, string: str) -> None:
            # A disk that has become full must not cost the message.
            with suppress(OSError):
                super().store_string(string)

    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner alone, like the conversations.
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600))
        return KeptHistory(str(file))
    return InMemoryHistory()


def _keys() -> KeyBindings:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: Any) -> None:
        buffer = event.current_buffer
        if is_open(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("tab")
    def tab(event: Any) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None:
            buffer.complete_next()
            return
        # At once, where prompt_toolkit would take its time: Enter may follow directly.
        found = list(buffer.completer.get_completions(buffer.document, CompleteEvent(completion_requested=True)))
        if len(found) == 1:
            buffer.apply_completion(found[0])
        else:
            buffer.start_completion(insert_common_part=True)

    @keys.add("escape", "enter")
    def alt_enter(event: Any) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys
