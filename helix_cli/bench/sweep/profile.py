"""What a sweep knows of a pair, in the form that depth control starts from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from helix_cli.bench.arms import Arm
from helix_cli.bench.measure import Measured
from helix_cli.bench.plan import PLAIN
from helix_cli.bench.schema import Run, Setup, Text
from helix_cli.bench.sweep.plan import Setting
from helix_cli.bench.sweep.standing import runs_of
from helix_cli.bench.workloads import Workload
from helix_cli.config import Config
from helix_cli.depth_choice import profile_key
from helix_cli.draft.profile import ENOUGH_ROUNDS, Profile, SourceProfile, save_profile
from helix_cli.model.language_model import LanguageModel
from helix_cli.storage import Storage

SOURCES: Final = {"ngram": "ngram", "model": "model", "early_exit": "model"}
"""Drafters and their way of drafting, where they have but one (see `Drafter.source`)."""
FEWEST = 4
"""Samples of a time or of a position, below which chance decides."""


def keep_profiles(
    measured: Measured,
    arms: Sequence[Arm],
    configs: Mapping[Setting, Config],
    workloads: Sequence[Workload],
    target: LanguageModel,
    storage: Storage,
) -> list[str]:
    """Saves a profile for each drafter that was measured enough, for `draft.k: auto` to start from; returns those."""
    plain = runs_of(measured, PLAIN, workloads)
    by_name = {setting.name: (setting, config) for setting, config in configs.items() if setting.k}
    setups: dict[str, tuple[Setup, Config]] = {}
    runs: dict[str, list[Run]] = defaultdict(list)
    for arm in arms:
        if arm.name in by_name:
            setting, config = by_name[arm.name]
            setups[setting.drafter] = (arm.setup(), config)
            runs[setting.drafter] += runs_of(measured, arm.name, workloads)
    kept = []
    for drafter, (setup, config) in setups.items():
        profile = profile_of_runs(SOURCES[drafter], runs[drafter], plain) if drafter in SOURCES else None
        if profile is not None:
            weights = setup.draft.weights if setup.draft else None
            key = profile_key(config, setup.device, target, setup.target.weights, weights)
            save_profile(storage, key, profile)
            kept.append(drafter)
    return kept


def profile_of_runs(source: str, runs: Sequence[Run], plain_runs: Sequence[Run]) -> Profile | None:
    """Medians over the rounds of texts that ran alone; None where too few drafts were judged."""
    texts = [text for run in runs for text in run.texts]
    plain = [text for run in plain_runs for text in run.texts]
    passes: dict[int, list[float]] = defaultdict(list)
    for text in (*texts, *plain):
        for drafted, times in zip(text.drafted, text.rounds, strict=True):
            passes[drafted + 1].append(times[1])
    target_s = {rows: median(seconds) for rows, seconds in sorted(passes.items()) if len(seconds) >= FEWEST}
    draft = [
        times[0] / drafted
        for text in texts
        for drafted, times in zip(text.drafted, text.rounds, strict=True)
        if drafted
    ]
    if len(draft) < ENOUGH_ROUNDS or not plain or not target_s or min(target_s.values()) <= 0.0:
        return None
    draft_s = median(draft)
    late = [(text.rounds[0][0] - text.drafted[0] * draft_s) / text.num_prompt_tokens for text in texts if text.rounds]
    return Profile(
        target_s=target_s,
        overhead_s=median(times[2] for text in texts for times in text.rounds),
        sources={source: SourceProfile({1: draft_s}, max(0.0, median(late)), kept_by_position(texts))},
    )


def kept_by_position(texts: Sequence[Text]) -> tuple[float, ...]:
    """The share of drafted tokens kept at each position, once those before it were, as far as enough were drafted."""
    kept: dict[int, list[bool]] = defaultdict(list)
    for text in texts:
        for drafted, accepted in zip(text.drafted, text.accepted, strict=True):
            for place in range(min(accepted + 1, drafted)):
                kept[place].append(place < accepted)
    shares: list[float] = []
    while len(found := kept[len(shares)]) >= FEWEST:
        shares.append(sum(found) / len(found))
    return tuple(shares)
