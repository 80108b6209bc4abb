"""What a benchmark is to do, from the words of its command line, and the settings under which it does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from helix_cli.bench.workloads import CATEGORIES, Shape, Workload, parse_shape
from helix_cli.config import Config, load_config
from helix_cli.errors import ConfigError, InputError

if TYPE_CHECKING:
    from helix_cli.bench.workloads import Builder
    from helix_cli.prompt import Prompt

PLAIN: Final = "plain"
SPECULATIVE: Final = "speculative"
TRANSFORMERS: Final = "transformers"
ASSISTED: Final = "transformers-assisted"
ARMS: Final = (PLAIN, SPECULATIVE, TRANSFORMERS, ASSISTED)
"""What --arms may name."""
DRAFTING: Final = frozenset((SPECULATIVE, ASSISTED))

FIXED_OPTIONS: Final = frozenset(("--max-tokens", "--stop", "--ignore-eos", "--prompt-cache"))
FIXED_KEYS: Final = {
    "sampling.max_tokens": "Use --tokens.",
    "sampling.stop": "Every text goes on to the same length.",
    "sampling.ignore_eos": "Every text goes on to the same length.",
    "cache.prefix_reuse": "Use --reuse-prefixes.",
    "cache.persist": "A benchmark keeps nothing for a later run.",
    "cache.prompt_cache": "A benchmark keeps nothing for a later run.",
}
"""What the benchmark decides, and what to do instead."""
GREEDY: Final = {"temperature": "0", "repetition_penalty": "1", "seed": "0"}
"""Sampling where the user says nothing: the model's own defaults would make texts of chance."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    arms: tuple[str, ...]
    shapes: tuple[Shape, ...]
    categories: tuple[str, ...]
    batches: tuple[int, ...]
    rounds: int
    tokens: int
    limit: int


def make_plan(
    arms: str, shapes: str, categories: str, batches: str | None, *, rounds: int, tokens: int, limit: int
) -> Plan:
    """The plan that comma lists describe. Raises InputError."""
    groups: dict[str, tuple[str, ...]] = {"all": CATEGORIES, "none": ()}
    kinds = groups[categories] if categories in groups else names_in(categories, CATEGORIES, "category")
    shaped = () if shapes == "none" else tuple(parse_shape(name) for name in split_list(shapes))
    return Plan(names_in(arms, ARMS, "arm"), shaped, kinds, _sizes(batches), rounds, tokens, limit)


def bench_config(config: Config, file: Path | None, overrides: Sequence[str], plan: Plan, reuse: bool) -> Config:
    """`config`, which `file` and `overrides` gave, as the benchmark runs it. Raises ConfigError."""
    drafts = bool(DRAFTING & set(plan.arms))
    refuse_keys(overrides, FIXED_KEYS)
    for override in overrides:
        key = key_of(override)
        if key.startswith("draft.") and not drafts:
            raise ConfigError(f"{key} cannot take effect: no arm drafts.", f"Leave it out, or add arm {SPECULATIVE}.")
    if SPECULATIVE in plan.arms and config.draft.kind == "none":
        raise ConfigError("Arm speculative needs a drafter, and drafter is none.", "Choose one, or --arms plain.")
    if ASSISTED in plan.arms and config.draft.kind != "model":
        raise ConfigError(f"Arm {ASSISTED} needs a draft model.", "Name one with --draft, or leave the arm out.")
    largest = max(plan.batches, default=1)
    if largest > config.engine.max_sequences:
        raise ConfigError(
            f"A batch of {largest} is more than engine.max_sequences, which is {config.engine.max_sequences}.",
            f"Add --set engine.max_sequences={largest}.",
        )
    added = measured_settings(config, plan.tokens, reuse)
    if not drafts:
        added.append("draft.kind=none")
    return load_config(file, [*overrides, *added])


def measured_settings(config: Config, tokens: int, reuse: bool) -> list[str]:
    """Overrides of `config` that make every text equally long, and greedy where the user says nothing."""
    added = [f"sampling.{key}={value}" for key, value in GREEDY.items() if getattr(config.sampling, key) is None]
    added += [f"sampling.max_tokens={tokens}", "sampling.ignore_eos=true", "sampling.stop=[]"]
    added += ["cache.persist=false", "cache.prompt_cache=null"]
    return [*added, f"cache.prefix_reuse={'true' if reuse else 'false'}"]


def refuse_keys(overrides: Sequence[str], fixed: Mapping[str, str]) -> None:
    """Raises ConfigError for an override of what a measurement decides itself; `fixed` says what to do instead."""
    for override in overrides:
        if (key := key_of(override)) in fixed:
            raise ConfigError(f"{key} cannot take effect in a benchmark.", fixed[key])


def key_of(override: str) -> str:
    """`draft.k` of `draft.k=4`."""
    return override.partition("=")[0].strip()


def workloads_of(plan: Plan, builder: Builder, own_name: str, own: Sequence[Prompt], seed: int) -> list[Workload]:
    """Everything to run: shapes, categories or the user's own prompts, and batches of the same. Raises InputError."""
    found = [builder.shape(shape, seed) for shape in plan.shapes]
    if own:
        found.append(builder.file(own_name, own, plan.tokens))
    else:
        found += [builder.category(name, plan.limit, plan.tokens) for name in plan.categories]
    if plan.batches:
        jobs = found[-1].jobs if own else builder.mixed(plan.categories or CATEGORIES, plan.tokens)
        found += builder.batches(jobs, plan.batches, plan.tokens)
    if not found:
        raise InputError("There is nothing to measure.", "Name shapes, categories, --prompts or --batch.")
    return found


def names_in(text: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    """The names of a comma list, all of which must be `known`. Raises InputError."""
    names = split_list(text)
    for name in names:
        if name not in known:
            raise InputError(f"There is no {what} '{name}'.", f"Choose among {', '.join(known)}.")
    return names


def _sizes(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    names = split_list(text)
    if not all(name.isdecimal() and int(name) > 0 for name in names):
        raise InputError(f"--batch {text} is not a list of sizes.", "Write whole numbers, as in 1,4,16.")
    sizes = tuple(sorted(map(int, names)))
    if any(sizes[-1] % size for size in sizes):
        raise InputError(f"{text} cannot share its prompts.", "Each size must divide the largest, as in 1,4,16.")
    return sizes


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a comma list, each once. Raises InputError for an empty one."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"'{text}' has an empty place.", "Write names with commas between them.")
    return tuple(dict.fromkeys(names))
