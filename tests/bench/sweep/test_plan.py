"""From the words of a command line to settings and their configurations."""

from __future__ import annotations

import pytest

from helix_cli.bench.sweep.plan import (
    Setting,
    SweepPlan,
    make_settings,
    parse_depths,
    parse_drafters,
    setting_configs,
)
from helix_cli.config import Config, load_config
from helix_cli.errors import ConfigError, InputError


def plan(*drafters: str, depths: tuple[int, ...] = (0, 2)) -> SweepPlan:
    return SweepPlan(make_settings(drafters, depths), rounds=1, tokens=24, limit=2, precision=0.03)


@pytest.mark.parametrize(
    ("text", "depths"),
    [("0-3", (0, 1, 2, 3)), ("4,0,2", (0, 2, 4)), ("8,1-2", (1, 2, 8)), ("2-2", (2,)), ("64", (64,))],
)
def test_depths(text: str, depths: tuple[int, ...]) -> None:
    assert parse_depths(text) == depths


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "65", "0-65", "1,,2", "1.5"])
def test_no_depths(text: str) -> None:
    with pytest.raises(InputError):
        parse_depths(text)


def test_depth_zero_alone_compares_nothing() -> None:
    with pytest.raises(InputError, match="Depth 0 alone"):
        parse_depths("0")


def test_plain_decoding_is_measured_once_and_first() -> None:
    settings = make_settings(("model", "ngram"), (2, 4))
    assert settings[0].name == "plain"
    assert [one.name for one in settings[1:]] == ["model K=2", "model K=4", "ngram K=2", "ngram K=4"]


def test_the_configuration_names_the_drafter_where_nobody_else_does() -> None:
    assert parse_drafters(None, Config()) == ("model",)
    assert parse_drafters("ngram,early_exit", Config()) == ("ngram", "early_exit")
    with pytest.raises(ConfigError, match="Nothing drafts"):
        parse_drafters(None, load_config(None, ["draft.kind=none"]))
    with pytest.raises(InputError, match="no drafter 'none'"):
        parse_drafters("none", Config())


def test_settings_differ_in_drafter_and_depth_only() -> None:
    configs = setting_configs(plan("model", "ngram"), None, ["draft.ngram_max=5"], lambda note: None)
    assert [(one.draft.kind, one.draft.k) for one in configs.values()] == [("model", 0), ("model", 2), ("ngram", 2)]
    by_drafter = {setting: config.draft for setting, config in configs.items()}
    assert by_drafter[Setting("ngram", 2)].ngram_max == 5
    assert "ngram_max" not in by_drafter[Setting("model", 2)].model_fields_set
    others = [config.model_dump(exclude={"draft"}) for config in configs.values()]
    assert others[0] == others[1] == others[2]
    assert others[0]["sampling"]["max_tokens"] == 24 and others[0]["sampling"]["temperature"] == 0.0
    assert not others[0]["cache"]["prefix_reuse"]


def test_what_no_drafter_uses_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"draft.layers cannot take effect"):
        setting_configs(plan("model", "ngram"), None, ["draft.layers=2"], lambda note: None)


@pytest.mark.parametrize(("override", "hint"), [("draft.k=3", "--k"), ("draft.kind=ngram", "--drafter")])
def test_what_the_sweep_decides_is_no_override(override: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        setting_configs(plan("model"), None, [override], lambda note: None)
    assert hint in caught.value.hint
