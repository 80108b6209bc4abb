"""Settings that change while a conversation goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix_cli.chat.settings import Settings
from helix_cli.commands.settings import OPTIONS
from helix_cli.errors import ConfigError

NAMES = {flag[2:]: key for flag, (key, _) in OPTIONS.items()}


def ignore(note: str) -> None:
    """Nobody listens."""


def settings(*overrides: str, file: Path | None = None) -> Settings:
    return Settings(file, overrides, NAMES, ignore)


def changed(before: Settings, *pairs: tuple[str, str]) -> Settings:
    for name, value in pairs:
        before = before.changed(name, value, ignore)
    return before


def test_short_names_full_names_and_option_names() -> None:
    chosen = (("temperature", "0.5"), ("max_tokens", "9"), ("--k", "2"), ("draft.dtype", "float32"))
    after = changed(settings("sampling.seed=1"), *chosen)
    config = after.config
    assert (config.sampling.temperature, config.sampling.max_tokens, config.sampling.seed) == (0.5, 9, 1)
    assert (config.draft.k, config.draft.dtype) == (2, "float32")
    assert (after.value("k"), after.value("sampling.seed"), after.value("top-p")) == (2, 1, None)


def test_a_change_leaves_the_settings_before_it_alone() -> None:
    before = settings()
    changed(before, ("k", "2"))
    assert before.config.draft.k == "auto"


def test_a_drafter_keeps_what_belongs_to_another_for_later() -> None:
    none = changed(settings("draft.k=7", "draft.path=demo"), ("drafter", "none"))
    assert none.config.draft.kind == "none"
    with pytest.raises(ConfigError, match=r"draft\.k cannot take effect with drafter none"):
        changed(none, ("k", "3"))
    ngram = changed(none, ("drafter", "ngram"))
    assert (ngram.config.draft.kind, ngram.config.draft.k) == ("ngram", 7)
    for back in (("drafter", "model"), ("draft", "demo")):
        model = changed(ngram, back)
        assert (model.config.draft.kind, model.config.draft.path, model.config.draft.k) == ("model", "demo", 7)


def test_a_named_draft_model_drafts_whatever_was_chosen_for_another_drafter() -> None:
    early = changed(settings(), ("drafter", "early_exit"), ("draft.layers", "1"))
    model = changed(early, ("draft", "demo"))
    assert (model.config.draft.kind, model.config.draft.path) == ("model", "demo")


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("temprature", "1", "no setting temprature", "temperature"),
        ("xyz", "1", "no setting xyz", "The settings are"),
        ("draft.kk", "1", "no setting draft.kk", "draft.k"),
        ("temperature", "-1", "at least 0", "How random"),
        ("k", "many", "whole number", "propose"),
        ("drafter", "psychic", "one of", "What proposes"),
    ],
)
def test_mistakes_are_explained(name: str, value: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(settings(), (name, value))
    assert message in caught.value.message and hint in caught.value.hint
