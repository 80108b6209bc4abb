"""Another drafter, depth, rule or sampling for a session that is open: the target and what its cache holds stay."""

from __future__ import annotations

from dataclasses import replace

from helix_cli.assembly import (
    Kept,
    build_engine,
    build_runner,
    check_early_exit,
    draft_decoder,
    open_source,
    require_same_tokenizer,
    sampling_params,
)
from helix_cli.config import Config
from helix_cli.errors import ConfigError
from helix_cli.model.runner import ModelRunner
from helix_cli.session import Wired
from helix_cli.verify.choose import choose_rule


class Rewiring:
    """Wires an open session anew by another config: another drafter, depth, rule or sampling over the same target."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def __call__(self, config: Config, wired: Wired) -> Wired:
        """`wired` as `config` has it; nothing changes where it raises a HelixError."""
        kept = self._kept
        _check_same_target(kept.config, config)
        params = sampling_params(config, kept.defaults)
        rule = choose_rule(config.verify.rule, params)
        runners, draft_weights = kept.runners, wired.info.draft_weights
        if _drafting_model(config) != _drafting_model(kept.config):
            runners, draft_weights = self._with_draft(config)
        engine = build_engine(config, runners, frozenset(kept.defaults.eos_ids), kept.backend)
        info = replace(
            wired.info,
            draft=config.draft.path if config.draft.kind == "model" else None,
            draft_weights=draft_weights,
            drafter=config.draft.kind,
            k=0 if config.draft.kind == "none" else config.draft.k,
            rule=rule.name,
            config=config.effective(),
        )
        self._kept = replace(kept, config=config, runners=runners)
        return Wired(engine, params, config.verify.rule, info)

    def _with_draft(self, config: Config) -> tuple[list[ModelRunner], str | None]:
        """The target's runner with that of the config's draft model, newly loaded, and how its weights are stored."""
        kept = self._kept
        target = kept.runners[0]
        source = open_source(config.draft.path, "draft") if config.draft.kind == "model" and config.draft.path else None
        if source is not None:
            require_same_tokenizer(kept.tokenizer, source.path)
        check_early_exit(config, target.decoder.architecture)
        drafting, draft_weights = draft_decoder(config, kept.target, kept.weights, source, kept.opener)
        if drafting is None:
            return [target], None
        return [target, build_runner(config, drafting, target.cache.num_blocks, kept.stop_flag)], draft_weights


def _drafting_model(config: Config) -> tuple[object, ...]:
    """What decides which model drafts."""
    draft = config.draft
    kinds = {"model": (draft.path, draft.dtype, draft.weights), "early_exit": (draft.layers,)}
    return (draft.kind, *kinds[draft.kind]) if draft.kind in kinds else ()


def _check_same_target(before: Config, after: Config) -> None:
    """Only the drafter, the rule and the sampling of an open session can change. Raises ConfigError."""
    for name in ("model", "cache", "engine", "backend"):
        old, new = getattr(before, name), getattr(after, name)
        for key in type(old).model_fields:
            if getattr(old, key) != getattr(new, key):
                raise ConfigError(
                    f"{name}.{key} cannot change while the model is loaded.", "Leave, and start again with the new one."
                )
