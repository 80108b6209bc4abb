"""Which settings a sweep measures, from the words of its command line, and the configuration of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from helix_cli.bench.plan import FIXED_KEYS, PLAIN, key_of, measured_settings, refuse_keys, split_list
from helix_cli.config import Config, load_config
from helix_cli.drafter_choice import applies
from helix_cli.errors import ConfigError, InputError
from helix_cli.sections import DrafterKind

DEEPEST: Final = 64
DRAFTERS: Final = tuple(kind for kind in get_args(DrafterKind) if kind != "none")
SWEPT_KEYS: Final[Mapping[str, str]] = {
    **FIXED_KEYS,
    "cache.prefix_reuse": "A sweep keeps no computed prompts.",
    "draft.k": "Use --k.",
    "draft.kind": "Use --drafter.",
}
"""What the sweep decides, and what to do instead."""


@dataclass(frozen=True)
class Setting:
    """What is compared: a drafter and how many tokens it proposes. Depth 0 is plain decoding, whatever the drafter."""

    drafter: str
    k: int

    @property
    def name(self) -> str:
        """What its arm is called."""
        return f"{self.drafter} K={self.k}" if self.k else PLAIN


@dataclass(frozen=True)
class SweepPlan:
    """What to measure, and how closely."""

    settings: tuple[Setting, ...]
    """Plain decoding first, then each drafter's depths in order."""
    rounds: int
    tokens: int
    limit: int
    precision: float

    @property
    def drafters(self) -> tuple[str, ...]:
        """Each drafter once."""
        return tuple(dict.fromkeys(one.drafter for one in self.settings))


def parse_depths(text: str) -> tuple[int, ...]:
    """`0-8`, `0,2,4` or both mixed, in order. Raises InputError."""
    found: set[int] = set()
    for part in split_list(text):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= DEEPEST:
            raise InputError(f"--k {text} is not a list of depths.", f"Write 0-8 or 0,2,4, with at most {DEEPEST}.")
        found |= set(range(first, last + 1))
    if not found - {0}:
        raise InputError("Depth 0 alone leaves nothing to choose.", "Name more depths, as in --k 0-8.")
    return tuple(sorted(found))


def parse_drafters(text: str | None, config: Config) -> tuple[str, ...]:
    """The drafters that a comma list names; the configuration's own where there is none. Raises a HelixError."""
    if text is None:
        if config.draft.kind == "none":
            raise ConfigError("Nothing drafts: drafter is none.", f"Name some with --drafter: {', '.join(DRAFTERS)}.")
        return (config.draft.kind,)
    names = split_list(text)
    for name in names:
        if name not in DRAFTERS:
            raise InputError(f"There is no drafter '{name}' to sweep.", f"Choose among {', '.join(DRAFTERS)}.")
    return names


def make_settings(drafters: Sequence[str], depths: Sequence[int]) -> tuple[Setting, ...]:
    """Plain decoding once, which all are compared with, and every drafter at every other depth."""
    drafting = [Setting(drafter, k) for drafter in drafters for k in depths if k]
    return (Setting(drafters[0], 0), *drafting)


def setting_configs(
    plan: SweepPlan, file: Path | None, overrides: Sequence[str], tell: Callable[[str], None]
) -> dict[Setting, Config]:
    """The configuration of each setting, which differ in drafter and depth only. Raises ConfigError.

    An override that some of the drafters use goes to those; one that none of them uses is an error. `tell` hears once
    what the user may not expect.
    """
    refuse_keys(overrides, SWEPT_KEYS)
    configs: dict[Setting, Config] = {}
    for setting in plan.settings:
        mine = [one for one in overrides if _is_for(one, setting.drafter, plan.drafters)]
        mine += [f"draft.kind={setting.drafter}", f"draft.k={setting.k}"]
        chosen = load_config(file, mine, tell if not configs else lambda note: None)
        configs[setting] = load_config(file, [*mine, *measured_settings(chosen, plan.tokens, reuse=False)])
    return configs


def _is_for(override: str, drafter: str, drafters: Sequence[str]) -> bool:
    section, _, key = key_of(override).partition(".")
    return section != "draft" or applies(key, drafter) or not any(applies(key, one) for one in drafters)
