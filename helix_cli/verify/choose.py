"""Which rule a request gets."""

from __future__ import annotations

from helix_cli.core import SamplingParams
from helix_cli.errors import ConfigError
from helix_cli.verify import RULES
from helix_cli.verify.rule import VerifyRule

AUTO = "auto"


def choose_rule(name: str, params: SamplingParams) -> VerifyRule:
    """The rule called `name`; `auto` is greedy at temperature 0, coupled with a seed and block otherwise.

    Every rule is exact. Coupled costs a little acceptance, and makes the text a function of the seed alone.

    Raises:
        ConfigError: for an unknown name, and for greedy at a temperature that it would ignore.
    """
    if name == AUTO:
        name = "greedy" if params.temperature == 0 else "block" if params.seed is None else "coupled"
    if name not in RULES:
        known = ", ".join([AUTO, *RULES])
        raise ConfigError(f"There is no verification rule called {name}.", f"Choose one of {known}.")
    if name == "greedy" and params.temperature != 0:
        raise ConfigError(
            f"The greedy rule always takes the likeliest token, so temperature {params.temperature:g} has no effect.",
            "Set the temperature to 0, or choose rule auto, block, token or coupled.",
        )
    return RULES[name]
