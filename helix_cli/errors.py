"""The errors a user can cause or meet: one sentence, one hint, exit code 2."""


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
