"""Which rule a request gets."""

from __future__ import annotations

import pytest

from helix_cli.core import SamplingParams
from helix_cli.errors import ConfigError
from helix_cli.verify import RULES
from helix_cli.verify.choose import AUTO, choose_rule

COLD, WARM = SamplingParams(), SamplingParams(temperature=0.7)
SEEDED = SamplingParams(temperature=0.7, seed=0)


def test_registry_names_are_the_rules_names() -> None:
    assert {name: rule.name for name, rule in RULES.items()} == {
        name: name for name in ("greedy", "token", "block", "coupled")
    }


@pytest.mark.parametrize(
    ("params", "name"),
    [(COLD, "greedy"), (SamplingParams(seed=1), "greedy"), (WARM, "block"), (SEEDED, "coupled")],
)
def test_auto(params: SamplingParams, name: str) -> None:
    assert choose_rule(AUTO, params).name == name


@pytest.mark.parametrize("name", ["token", "block", "coupled"])
@pytest.mark.parametrize("params", [COLD, WARM, SEEDED])
def test_a_named_rule_is_obeyed_at_any_temperature(name: str, params: SamplingParams) -> None:
    assert choose_rule(name, params) is RULES[name]


def test_greedy_refuses_a_temperature_it_would_ignore() -> None:
    assert choose_rule("greedy", COLD) is RULES["greedy"]
    with pytest.raises(ConfigError, match=r"0\.7 has no effect") as caught:
        choose_rule("greedy", WARM)
    assert "temperature to 0" in caught.value.hint


def test_an_unknown_rule_is_an_error_that_lists_the_rules() -> None:
    with pytest.raises(ConfigError, match="speculative") as caught:
        choose_rule("speculative", COLD)
    assert all(name in caught.value.hint for name in [AUTO, *RULES])
