"""The shared options: each one changes the configuration, and help says what it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from helix_cli.commands.settings import OPTIONS, Choices, with_settings
from helix_cli.config import SECTIONS, Config
from helix_cli.errors import ConfigError

VALUES: dict[str, tuple[list[str], Any]] = {
    "--model": (["org/target"], "org/target"),
    "--draft": (["yes: [😀\n\x7f"], "yes: [😀\n\x7f"),
    "--dtype": (["float16"], "float16"),
    "--exact": (["on"], "on"),
    "--template": (["t.jinja"], "t.jinja"),
    "--prompt-cache": (["notes"], "notes"),
    "--weights": (["int8"], "int8"),
    "--draft-weights": (["bfloat16"], "bfloat16"),
    "--device": (["cuda:1"], "cuda:1"),
    "--drafter": (["ngram"], "ngram"),
    "--k": (["7"], 7),
    "--rule": (["token"], "token"),
    "--max-tokens": (["9"], 9),
    "--temperature": (["0.00001"], 0.00001),
    "--top-k": (["0"], 0),
    "--top-p": (["0.5"], 0.5),
    "--min-p": (["0"], 0.0),
    "--repetition-penalty": (["1.5"], 1.5),
    "--seed": (["0"], 0),
    "--stop": (["\n", "null"], ("\n", "null")),
    "--ignore-eos": ([], True),
}
"""Option -> (texts to give it, the value its key must have then)."""


@pytest.fixture
def run() -> Callable[..., Config]:
    """A function that runs a command with the shared options and returns the configuration it gets."""

    def run(*arguments: str) -> Config:
        seen: list[Config] = []

        @with_settings
        def command(choices: Choices, word: Annotated[str, typer.Argument()] = "") -> None:
            seen.append(choices.load(lambda note: None))

        app = typer.Typer()
        app.command()(command)
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return seen[0]

    return run


def value(config: Config, key: str) -> Any:
    """The value of `section.key`."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_configuration(option: str, run: Callable[..., Config]) -> None:
    texts, expected = VALUES[option]
    key = OPTIONS[option][0]
    arguments = [part for text in texts for part in (option, text)] if texts else [option]
    assert value(run(), key) != expected
    assert value(run(*arguments), key) == expected


def test_nothing_given_is_the_demo(run: Callable[..., Config]) -> None:
    assert run("word").effective() == Config().effective()


def test_any_setting_by_its_name(run: Callable[..., Config], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("sampling: {ignore_eos: true}\nengine: {max_sequences: 3}\n", encoding="utf-8")
    config = run(
        "--config", str(file), "--set", "cache.blocks=9", "--set", "draft.k=2", "--set", "sampling.ignore_eos=false"
    )
    assert (config.cache.blocks, config.draft.k, config.engine.max_sequences) == (9, 2, 3)
    assert not config.sampling.ignore_eos
    with pytest.raises(ConfigError, match=r"draft\.k is given twice"):
        run("--k", "3", "--set", "draft.k=4")


def test_every_option_sets_a_key_of_its_own() -> None:
    keys = [key for key, _ in OPTIONS.values()]
    known = {f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields}
    assert len({*keys}) == len(keys) and {*keys} <= known and VALUES.keys() == OPTIONS.keys()
