"""The settings of a conversation under way: what the user began with, changed one by one with /set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from helix_cli import strict_yaml
from helix_cli.config import Config, load_config
from helix_cli.drafter_choice import DRAFTERS_USING, WITH_A_MODEL, applies
from helix_cli.errors import ConfigError

CHANGEABLE = ("sampling", "draft", "verify")
"""The sections that can change while the target stays loaded."""


class Settings:
    """A config file and overrides of it, by the short names of the command's options and by full names."""

    def __init__(
        self, file: Path | None, overrides: tuple[str, ...], names: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        """`names` maps a short name to its key: "max-tokens" to "sampling.max_tokens". Raises ConfigError.

        `tell` hears what the user may not expect.
        """
        self._file = file
        self._chosen = dict(_split(override) for override in overrides)
        self._names = dict(names)
        self.config = load_config(file, overrides, tell)

    def changed(self, name: str, value: str, tell: Callable[[str], None]) -> Settings:
        """These settings with another value, written as YAML. Raises ConfigError for what cannot be."""
        key = self.key(name)
        _check_applies(key, self.config.draft.kind)
        chosen = {**self._chosen, key: value}
        if key == "draft.path":
            # A draft model that is named is meant to draft; what was chosen for another drafter waits.
            chosen["draft.kind"] = WITH_A_MODEL[0]
        other = copy(self)
        other._chosen, other.config = chosen, self._load(chosen, tell)
        return other

    def key(self, name: str) -> str:
        """The full name of a setting. Raises ConfigError, with the nearest, for one that there is not."""
        name = name.removeprefix("--")
        spelled = name.replace("_", "-")
        if spelled in self._names:
            return self._names[spelled]
        keys = self._full_names()
        if name in keys:
            return name
        if name == "chat.system":
            raise ConfigError("The system prompt is no setting of an open conversation.", "Use /system.")
        close = [key for key in keys if key.endswith(f".{name}")]
        close = close or get_close_matches(spelled, [*self._names, *keys], n=1)
        hint = f"Did you mean {close[0]}?" if close else f"The settings are {', '.join(self.changeable)}."
        raise ConfigError(f"There is no setting {name}.", hint)

    def _full_names(self) -> list[str]:
        """Every setting but the conversation's own, as section.key."""
        sections = {name: getattr(self.config, name) for name in type(self.config).model_fields if name != "chat"}
        return [f"{name}.{key}" for name, section in sections.items() for key in type(section).model_fields]

    @property
    def changeable(self) -> list[str]:
        """The short names of what can change while the target stays loaded."""
        return [name for name, key in self._names.items() if key.partition(".")[0] in CHANGEABLE]

    def value(self, name: str) -> Any:
        """What the config says; None where it is silent, or where the setting takes no effect. Raises ConfigError."""
        section, _, key = self.key(name).partition(".")
        return self.config.effective().get(section, {}).get(key)

    def _load(self, chosen: Mapping[str, str], tell: Callable[[str], None]) -> Config:
        """What was chosen for one drafter waits, and says nothing, while another one runs."""
        kind = strict_yaml.parse(chosen["draft.kind"], "draft.kind") if "draft.kind" in chosen else None
        overrides = [
            f"{key}={value}"
            for key, value in chosen.items()
            if kind is None or not key.startswith("draft.") or applies(key.removeprefix("draft."), kind)
        ]
        return load_config(self._file, overrides, tell)


def _check_applies(key: str, kind: str) -> None:
    """Raises ConfigError for a setting of another drafter, which would wait unseen."""
    section, _, name = key.partition(".")
    if section == "draft" and name != "path" and not applies(name, kind):
        uses = ", ".join(DRAFTERS_USING[name])
        raise ConfigError(f"{key} cannot take effect with drafter {kind}.", f"Drafters that use it: {uses}.")


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.strip(), value
