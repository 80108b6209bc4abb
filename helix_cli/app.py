"""The program `helix`: one line per subcommand, and the one place where exceptions become sentences.

Subcommands are loaded when they are called, so that `helix --help` answers at once: it imports neither torch nor the
configuration.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from helix_cli import __version__
from helix_cli.errors import INTERRUPTED, HelixError, is_out_of_memory
from helix_cli.ui import console

COMMANDS: Final[dict[str, str]] = {
    "generate": "Continue a prompt, or answer a message, and say how fast it went.",
    "chat": "Talk with a model, turn by turn; a turn costs its new tokens only.",
    "bench": "Measure how fast it is, plain and with its draft, and whether speculation pays.",
    "sweep-k": "Measure how many tokens to propose at a time, and what the best number depends on.",
    "validate": "Prove, on this machine and with these models, that speculation changes nothing.",
    "drafts": "Find out which models on this machine can draft for a target, and how much faster it gets.",
    "plan": "Say what models take of the memory, and which contexts and batches fit, before anything is loaded.",
    "doctor": "Look at this machine: devices, packages, kernels, memory and caches, and what is wrong.",
    "cache": "List or clear what is kept on disk between runs.",
}
"""Name -> one line of help. Command `x-y` is the function `x_y` of helix_cli/commands/x_y.py."""

SPIN_COUNT: Final = "5000"
"""Turns of a waiting loop; 1000 are too few for the pauses between two products, 20000 starve other programs."""

BROKEN_PIPE: Final = 141
"""Exit code when the reader of stdout has gone: 128 + SIGPIPE."""


class HelixGroup(TyperGroup):
    """The group of subcommands: loads the one that is called, and holds the error boundary around everything."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The stand-in that help lists, replaced by the command itself."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in and load_command(str(stand_in.name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Ctrl-C and a reader that has gone are caught here, inside Typer's own handling of them."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            with suppress(OSError):
                console.notice("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except typer.BadParameter as error:
            # What reads options with pydantic lets its word for them through.
            error.message = error.message.removeprefix("Value error, ")
            raise
        except BrokenPipeError:
            _give_up_stdout()
            raise typer.Exit(BROKEN_PIPE) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; it ends in SystemExit whatever happens."""
        calm_threads(os.environ)
        with error_boundary():
            return super().main(*args, **kwargs)


app = typer.Typer(
    name="helix",
    cls=HelixGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"helix {__version__}")
        raise typer.Exit


@app.callback()
def helix(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Local language models, faster, with the text they would have written anyway."""


def load_command(name: str) -> Any:
    """The click command of a subcommand, with its options; a group where its module names SUBCOMMANDS of it."""
    function = name.replace("-", "_")
    module = import_module(f"helix_cli.commands.{function}")
    single = typer.Typer(name=name, add_completion=False, rich_markup_mode="rich")
    subcommands: dict[str, Callable[..., None]] = getattr(module, "SUBCOMMANDS", {})
    own = getattr(module, function)
    if subcommands:
        single.callback(invoke_without_command=True, help=_paragraphs(own))(own)
    else:
        single.command(name, help=_paragraphs(own))(own)
    for subcommand, run in subcommands.items():
        single.command(subcommand, help=_paragraphs(run))(run)
    return typer.main.get_command(single)


def _paragraphs(function: Callable[..., None]) -> str:
    """A docstring with one line a paragraph: the width of the terminal says where lines end, not that of the source."""
    return "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))


def calm_threads(environment: MutableMapping[str, str]) -> None:
    """Lets threads that wait for one another give the processor away after some tens of microseconds.

    The OpenMP library that torch brings on Linux reads this when it is loaded. By its own default it waits busily for
    milliseconds: beside one other busy program, on two cores, the embedded pair then makes 12 tokens/s instead of 125,
    and on a free machine it gains nothing. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


@contextmanager
def error_boundary() -> Iterator[None]:
    """Turns what a command raises into a sentence, a hint and an exit code. HELIX_DEBUG=1 shows the traceback too."""
    try:
        yield
    except Exception as error:
        if console.debugging():
            traceback.print_exc()
        message, hint, code = describe(error)
        _report(message, hint)
        sys.exit(code)


def _report(message: str, hint: str) -> None:
    """Says what is wrong; plainly where memory is short even for the means to say it well."""
    try:
        console.error(message, hint)
    except (OSError, MemoryError, ImportError):
        with suppress(OSError):  # Nobody may be reading stderr.
            os.write(2, f"Error: {message}\nHint: {hint}\n".encode())


def describe(error: Exception) -> tuple[str, str, int]:
    """Message, hint and exit code for an exception."""
    if isinstance(error, HelixError):
        return error.message, error.hint, error.exit_code
    if is_out_of_memory(error):
        hint = "Choose a smaller model, or lower cache.memory_share or engine.max_sequences with --set."
        return "There is not enough memory for this.", hint, 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}.", "Check the path and its permissions.", 2
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "There is no space left to write to.", "Free some space, or write to another place.", 2
    text = " ".join(str(error).split()) or "no details"
    return f"Something failed that should not: {type(error).__name__}: {text}", "Set HELIX_DEBUG=1 to see where.", 1


def _give_up_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not complain about the broken pipe."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stand_in() -> None:
    """Holds a subcommand's place in the help until it is called."""


def _register(register: Callable[..., Any]) -> None:
    for name, line in COMMANDS.items():
        register(name, help=line)(_stand_in)


_register(app.command)
