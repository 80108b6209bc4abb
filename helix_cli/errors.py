"""The errors a user can cause or meet: one sentence, one hint, exit code 2."""

import errno
import signal

INTERRUPTED = 128 + signal.SIGINT
"""The exit code that a shell expects of a program that Ctrl-C ended."""


class HelixError(Exception):
    """Something the user can mend. `message` says what is wrong, `hint` says what to do."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(HelixError):
    """A config file, an override or a combination of options that cannot take effect."""


class InputError(HelixError):
    """A prompt, an input file or an output path that cannot be used."""


class ModelError(HelixError):
    """A checkpoint or tokenizer that is missing, broken or not supported."""


class MemoryLimitError(HelixError):
    """The K/V pool, or the machine's memory, is too small for what was asked."""


class DeviceError(HelixError):
    """A device, or a number type on it, that is not available here."""


class Interrupted(Exception):
    """The user asked to stop while a forward pass was running; no counter has moved."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device; told by name and wording, because torch need not be imported here."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, ImportError):  # the loader's words where a library finds no room
        return any(phrase in str(error) for phrase in ("failed to map segment", "cannot allocate memory"))
    phrases = ("can't allocate memory", "not enough memory", "out of memory", "not enough gpu video memory")
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in phrases)


def first_line(error: BaseException) -> str:
    """How somebody else's error begins, without its full stop, to be quoted in a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
