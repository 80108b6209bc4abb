"""The options that every command which generates shares: each sets one key of the configuration.

`OPTIONS` is the whole truth: `with_settings` makes the command's options from it, with type, help and default read from
the configuration's own fields, and turns what the user gave into overrides.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from helix_cli import strict_yaml
from helix_cli.config import SECTIONS, Config, load_config
from helix_cli.errors import InputError
from helix_cli.overrides import plain_type

OPTIONS: Final[dict[str, tuple[str, str]]] = {
    "--model": ("model.path", "Models"),
    "--draft": ("draft.path", "Models"),
    "--dtype": ("model.dtype", "Models"),
    "--weights": ("model.weights", "Models"),
    "--draft-weights": ("draft.weights", "Models"),
    "--exact": ("model.exact", "Models"),
    "--template": ("model.template", "Models"),
    "--device": ("backend.device", "Models"),
    "--prompt-cache": ("cache.prompt_cache", "Models"),
    "--drafter": ("draft.kind", "Speculation"),
    "--k": ("draft.k", "Speculation"),
    "--rule": ("verify.rule", "Speculation"),
    "--max-tokens": ("sampling.max_tokens", "Sampling"),
    "--temperature": ("sampling.temperature", "Sampling"),
    "--top-k": ("sampling.top_k", "Sampling"),
    "--top-p": ("sampling.top_p", "Sampling"),
    "--min-p": ("sampling.min_p", "Sampling"),
    "--repetition-penalty": ("sampling.repetition_penalty", "Sampling"),
    "--seed": ("sampling.seed", "Sampling"),
    "--stop": ("sampling.stop", "Sampling"),
    "--ignore-eos": ("sampling.ignore_eos", "Sampling"),
}
"""Option -> (the key it sets, its panel in the help)."""

METAVARS: Final[dict[Any, str | None]] = {int: "N", float: "X", bool: None, "draft.k": "N|auto"}


@dataclass(frozen=True)
class Choices:
    """What the user chose: a config file and overrides of it."""

    file: Path | None
    overrides: tuple[str, ...]

    def load(self, tell: Callable[[str], None]) -> Config:
        """The configuration; `tell` hears what the user may not expect. Raises ConfigError."""
        return load_config(self.file, self.overrides, tell)


def with_settings(command: Callable[..., None], without: Set[str] = frozenset()) -> Callable[..., None]:
    """`command`, which takes a `choices: Choices`, as a function with the shared options in its place.

    `without` are options that could not take effect in this command.
    """
    options = {flag: place for flag, place in OPTIONS.items() if flag not in without}
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "choices"]
    shared = [*_file_options(), *(_option(flag, key, panel) for flag, (key, panel) in options.items())]

    def run(**given: Any) -> None:
        values = {parameter.name: given.pop(parameter.name) for parameter in shared}
        command(choices=Choices(values["config"], _overrides(values, options)), **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *shared]]
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _file_options() -> list[inspect.Parameter]:
    config = typer.Option("--config", metavar="FILE", help="A YAML file of settings; without it, those of the demo.")
    several = typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting by its name; may be repeated.")
    return [
        _parameter("config", Path | None, config),
        _parameter("settings", list[str] | None, several),
    ]


def _option(flag: str, key: str, panel: str) -> inspect.Parameter:
    field = _field(key)
    kind = plain_type(field)
    help_text, metavar = field.description, METAVARS.get(kind, METAVARS.get(key, "NAME"))
    if get_origin(kind) is Literal:
        help_text = f"{help_text} One of {', '.join(get_args(kind))}."
    if get_origin(kind) is tuple:
        kind, metavar, help_text = list[str], "TEXT", f"{help_text} May be repeated."
    default = _value(Config(), key)
    if default not in (None, (), False):
        help_text = f"{help_text} Default: {default}."
    option = typer.Option(flag, help=help_text, metavar=metavar, rich_help_panel=panel)
    return _parameter(_name(flag), kind | None, option)


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    """A parameter that is None unless the user gives it: defaults are the configuration's business."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _overrides(values: dict[str, Any], options: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    given = {key: values[_name(flag)] for flag, (key, _) in options.items()}
    return (
        *(f"{key}={strict_yaml.write(value)}" for key, value in given.items() if value is not None and value != []),
        *(values["settings"] or ()),
    )


def _name(flag: str) -> str:
    return flag[2:].replace("-", "_")


def _field(key: str) -> FieldInfo:
    section, _, name = key.partition(".")
    return SECTIONS[section].model_fields[name]


def _value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def check_together(given: Set[str], needs: Sequence[tuple[str, str]], excludes: Sequence[tuple[str, str]]) -> None:
    """Raises InputError for options that cannot take effect: the first of a pair without, or with, the second."""
    for option, other in needs:
        if option in given and other not in given:
            raise InputError(f"{option} cannot take effect without {other}.", f"Add {other}, or leave {option} out.")
    for option, other in excludes:
        if option in given and other in given:
            raise InputError(f"{option} cannot take effect together with {other}.", "Leave one of the two out.")
