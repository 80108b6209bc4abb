"""From what people write to settings: YAML files, `section.key=value`, and what is wrong with them in plain words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from helix_cli.errors import ConfigError
from helix_cli.strict_yaml import parse

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

Settings = dict[str, dict[str, Any]]
"""What somebody wrote: values by section and key."""

ValidKeys = Mapping[str, Sequence[str]]
"""The keys that exist, by section."""


def read_yaml(path: Path, valid: ValidKeys) -> Settings:
    """The settings of a YAML file; an empty file or section has none. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"The config file {path} is not UTF-8 text.", "Save it as UTF-8.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"The config file {path} cannot be read: {reason}.", "Give --config the path of a YAML file."
        ) from None
    content = parse(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not hold sections of settings.", "Write lines such as `draft:` and `  k: 4`.")
    settings: Settings = {}
    for section, values in content.items():
        if section in valid and not isinstance(values, dict | None):
            raise ConfigError(
                f"{section} in {path} must be a section with settings under it, not {_shown(values)}.",
                f"Its settings are {', '.join(valid[section])}.",
            )
        if section not in valid:
            raise _unknown(str(section), valid, f" in {path}")
        settings[section] = values or {}
        for key in settings[section]:
            if key not in valid[section]:
                raise _unknown(f"{section}.{key}", valid, f" in {path}")
    return settings


def parse_overrides(overrides: Sequence[str], valid: ValidKeys) -> Settings:
    """The settings of `section.key=value` texts, each value read as YAML. Raises ConfigError."""
    settings: Settings = {}
    for text in overrides:
        name, equals, written = text.partition("=")
        section, _, key = name.strip().partition(".")
        if not equals:
            raise ConfigError(f"{text!r} does not set anything.", "Write section.key=value, for example draft.k=4.")
        if key not in valid.get(section, ()):
            raise _unknown(name.strip(), valid, "")
        value = parse(written, f"The value of {section}.{key}")
        earlier = settings.setdefault(section, {})
        if key in earlier and earlier[key] != value:
            raise ConfigError(
                f"{section}.{key} is given twice, as {_shown(earlier[key])} and as {_shown(value)}.", "Give it once."
            )
        earlier[key] = value
    return settings


def merge(written: Settings, chosen: Settings) -> Settings:
    """Both together; what was chosen later wins, key by key."""
    return {name: written.get(name, {}) | chosen.get(name, {}) for name in {**written, **chosen}}


def explain(error: ValidationError, field: FieldInfo, source: str | None) -> ConfigError:
    """The first thing that is wrong with a value, as a sentence about the setting `field`."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][:2])
    must = str(first["ctx"]["error"]) if first["type"] == "value_error" else f"must be {expectation(field)}"
    where = f" in {source}" if source else ""
    return ConfigError(f"{name}{where} {must}, not {_shown(first['input'])}.", f"{name}: {field.description}")


def expectation(field: FieldInfo) -> str:
    """What a setting accepts, in words: `a whole number from 0 to 64`."""
    kind = plain_type(field)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return "a list of texts that are not empty"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text that is not empty"}[kind]
    limits = {name: limit for rule in field.metadata for name, limit in _limits(rule)}
    return words + _range(limits)


def plain_type(field: FieldInfo) -> Any:
    """The type of a setting without its `None`."""
    if {int, str} <= set(get_args(field.annotation)):
        return str  # a number or a word: its own check reads either
    choices = [choice for choice in get_args(field.annotation) if choice is not type(None)]
    return choices[0] if type(None) in get_args(field.annotation) else field.annotation


def _limits(rule: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(rule, name)) for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)]


def _range(limits: Mapping[str, Any]) -> str:
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    parts = {"ge": "of at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    return "".join(
        f"{' and ' if place else ' '}{parts[name].format(limit)}" for place, (name, limit) in enumerate(limits.items())
    )


def _unknown(name: str, valid: ValidKeys, where: str) -> ConfigError:
    """The nearest setting, by its full name first and then by its last part, is the hint."""
    names = [f"{section}.{key}" for section, keys in valid.items() for key in keys]
    last = name.rpartition(".")[2]
    close = [known for known in names if known.rpartition(".")[2] == last]
    close += get_close_matches(name, names if "." in name else [*names, *valid], n=1)
    close += [known for known in names if known.rpartition(".")[2] in get_close_matches(last, _keys(valid), n=1)]
    section = name.partition(".")[0]
    if close:
        hint = f"Did you mean {close[0]}?"
    elif section in valid:
        hint = f"The settings of {section} are {', '.join(valid[section])}."
    else:
        hint = f"The sections are {', '.join(valid)}."
    return ConfigError(f"There is no setting {name}{where}.", hint)


def _keys(valid: ValidKeys) -> list[str]:
    return [key for keys in valid.values() for key in keys]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
