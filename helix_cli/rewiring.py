"""Another drafter, depth, rule or sampling for a session that is open: the target and what its cache holds stay."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from helix_cli.assembly import (
    Loaded,
    build_engine,
    build_runner,
    check_early_exit,
    draft_decoder,
    draft_source,
    keep_prompts,
    vocabulary_of_pair,
)
from helix_cli.cache.kept import KeptPrompts
from helix_cli.config import Config
from helix_cli.drafter_choice import WITH_A_MODEL
from helix_cli.errors import ConfigError
from helix_cli.model.runner import ModelRunner
from helix_cli.sampling_choice import sampling_params
from helix_cli.session import Wired
from helix_cli.verify.choose import choose_rule
from helix_cli.vocabulary_choice import VocabularyChoice


class _Draft(NamedTuple):
    """What belongs to the model that drafts, if there is one."""

    runners: list[ModelRunner]
    """The target's, and its own."""
    weights: str | None
    """How they are stored."""
    vocabulary: VocabularyChoice | None
    kept_prompts: KeptPrompts | None
    """The prompts on disk that belong to both models."""


class Rewiring:
    """Wires an open session anew by another config: another drafter, depth, rule or sampling over the same target."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def __call__(self, config: Config, wired: Wired) -> Wired:
        """`wired` as `config` has it; nothing changes where it raises a HelixError."""
        loaded = self._loaded
        _check_same_target(loaded.config, config)
        params = sampling_params(config, loaded.defaults)
        rule = choose_rule(config.verify.rule, params)
        draft = _Draft(loaded.runners, wired.info.draft_weights, loaded.vocabulary, wired.kept_prompts)
        if _drafting_model(config) != _drafting_model(loaded.config):
            draft = self._open_draft(config)
        weights = loaded.weights, draft.weights
        wired.keep_profile()
        engine, keep_profile = build_engine(
            config, draft.runners, loaded.defaults, loaded.backend, loaded.storage, weights, draft.vocabulary
        )
        info = replace(
            wired.info,
            draft=config.draft.path if config.draft.kind in WITH_A_MODEL else None,
            draft_weights=draft.weights,
            vocabulary=None if draft.vocabulary is None else draft.vocabulary.facts(params.temperature),
            drafter=config.draft.kind,
            k=0 if config.draft.kind == "none" else config.draft.k,
            rule=rule.name,
            config=config.effective(),
        )
        self._loaded = replace(loaded, config=config, runners=draft.runners, vocabulary=draft.vocabulary)
        return Wired(engine, params, config.verify.rule, info, draft.kept_prompts, keep_profile)

    def _open_draft(self, config: Config) -> _Draft:
        """The config's draft model, newly loaded."""
        loaded = self._loaded
        target = loaded.runners[0]
        source = draft_source(config)
        vocabulary = None
        if source is not None:
            vocabulary = vocabulary_of_pair(config, loaded.tokenizer, loaded.source, source)
        check_early_exit(config, target.decoder.architecture)
        drafting, draft_weights = draft_decoder(config, loaded.target, loaded.weights, source, loaded.opener)
        runners = [target]
        if drafting is not None:
            runners.append(build_runner(config, drafting, target.cache.num_blocks, loaded.stop_flag))
        models = {
            "target": (loaded.source.path, loaded.weights),
            "draft": ((source or loaded.source).path, draft_weights),
        }
        kept_prompts = keep_prompts(config, models, runners, loaded.storage, vocabulary)
        return _Draft(runners, draft_weights, vocabulary, kept_prompts)


def _drafting_model(config: Config) -> tuple[object, ...]:
    """What decides which model drafts."""
    draft = config.draft
    if draft.kind in WITH_A_MODEL:
        return (draft.path, draft.dtype, draft.weights, draft.vocabulary)
    return (draft.layers,) if draft.kind == "early_exit" else ()


def _check_same_target(before: Config, after: Config) -> None:
    """Only the drafter, the rule and the sampling of an open session can change. Raises ConfigError."""
    for name in ("model", "cache", "engine", "backend"):
        old, new = getattr(before, name), getattr(after, name)
        for key in type(old).model_fields:
            if getattr(old, key) != getattr(new, key):
                raise ConfigError(
                    f"{name}.{key} cannot change while the model is loaded.", "Leave, and start again with the new one."
                )
