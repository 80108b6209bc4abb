"""The configuration: the demo that ships with Helix, changed by a YAML file and by `section.key=value` overrides.

`Config()` is the demo, and configs/demo.yaml spells it out. Whatever cannot take effect is an error: an unknown key, a
value out of range, a setting that the chosen drafter does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from helix_cli.drafter_choice import DEMO, DRAFTERS_USING, WITH_A_MODEL, applies, choose_drafter, keep_what_applies
from helix_cli.errors import ConfigError
from helix_cli.overrides import explain, merge, parse_overrides, read_yaml
from helix_cli.sections import (
    BackendSection,
    CacheSection,
    ChatSection,
    DraftSection,
    EngineSection,
    ModelSection,
    RuleName,
    SamplingSection,
    Section,
    VerifySection,
)


class Config(BaseModel):
    """Every setting of a run. Raises ConfigError where two settings contradict each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelSection = ModelSection()
    draft: DraftSection = DraftSection()
    sampling: SamplingSection = SamplingSection()
    verify: VerifySection = VerifySection()
    cache: CacheSection = CacheSection()
    engine: EngineSection = EngineSection()
    backend: BackendSection = BackendSection()
    chat: ChatSection = ChatSection()

    @model_validator(mode="before")
    @classmethod
    def _choose_drafter(cls, data: Any) -> Any:
        """Fill in the drafter where it is left out."""
        if not isinstance(data, dict):
            return data
        target = _written(data.get("model")).get("path", DEMO)
        draft = _written(data.get("draft"))
        return {**data, "draft": draft | choose_drafter(target, draft)}

    @model_validator(mode="after")
    def _check_combinations(self) -> Config:
        _check_draft(self.draft)
        _check_rule(self)
        _check_sizes(self)
        return self

    def effective(self) -> dict[str, dict[str, Any]]:
        """Every setting that applies, as plain JSON values; `Config.model_validate` of it gives an equal config."""
        sections: dict[str, dict[str, Any]] = self.model_dump(mode="json")
        sections["draft"] = {key: value for key, value in sections["draft"].items() if applies(key, self.draft.kind)}
        if self.cache.blocks is not None:
            del sections["cache"]["memory_share"]
        return sections


def load_config(
    path: str | Path | None, overrides: Sequence[str] = (), tell: Callable[[str], None] = lambda note: None
) -> Config:
    """The config of a YAML file (None: the demo) with `section.key=value` overrides, which parse as YAML, on top.

    A drafter named by an override replaces the file's: settings of the file that the new drafter does not use are
    dropped. A target named by an override does not keep the file's draft model, which belongs to another target.
    `tell` receives a sentence about such a replacement that the user may not expect. Raises ConfigError.
    """
    valid = {name: tuple(section.model_fields) for name, section in SECTIONS.items()}
    written = read_yaml(Path(path), valid) if path is not None else {}
    chosen = parse_overrides(overrides, valid)
    old_target = written.get("model", {}).get("path", DEMO)
    targets = (old_target, chosen.get("model", {}).get("path", old_target))
    notes: list[str] = []
    draft = keep_what_applies(written.get("draft", {}), chosen.get("draft", {}), targets, notes.append)
    try:
        config = Config.model_validate(merge({**written, "draft": draft}, chosen))
    except ValidationError as error:
        section, key = (str(part) for part in error.errors()[0]["loc"][:2])
        source = None if path is None or key in chosen.get(section, {}) else str(path)
        raise explain(error, SECTIONS[section].model_fields[key], source) from None
    for note in notes:
        tell(note)
    return config


SECTIONS: Final[dict[str, type[Section]]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
"""The sections by name, in the order of `Config`."""


def _written(section: Any) -> dict[str, Any]:
    """What was written of a section, which may come as a mapping, as an object, or not at all."""
    if isinstance(section, BaseModel):
        return section.model_dump(exclude_unset=True)
    return dict(section) if isinstance(section, dict) else {}


def _check_draft(draft: DraftSection) -> None:
    for key, kinds in DRAFTERS_USING.items():
        if key in draft.model_fields_set and getattr(draft, key) is not None and not applies(key, draft.kind):
            raise ConfigError(
                f"draft.{key} cannot take effect with drafter {draft.kind}.",
                f"Remove draft.{key}, or choose a drafter that uses it: {', '.join(kinds)}.",
            )
    if draft.kind in WITH_A_MODEL and draft.path is None:
        raise ConfigError(
            f"Drafter {draft.kind} needs a draft model.", "Name one with --draft, or choose --drafter ngram."
        )
    if draft.ngram_min > draft.ngram_max:
        raise ConfigError(
            f"draft.ngram_min is {draft.ngram_min} but draft.ngram_max is {draft.ngram_max}.",
            "Set draft.ngram_min to at most draft.ngram_max.",
        )


def _check_rule(config: Config) -> None:
    if config.verify.rule == "greedy" and config.sampling.temperature:
        others = [name for name in get_args(RuleName) if name not in ("auto", "greedy")]
        raise ConfigError(
            f"Rule greedy cannot work at temperature {config.sampling.temperature:g}.",
            f"Set --temperature 0, or choose --rule {', '.join(others)} or auto.",
        )


def _check_sizes(config: Config) -> None:
    if config.chat.system is not None and config.chat.system_file is not None:
        raise ConfigError("chat.system and chat.system_file are both set.", "Remove one of the two.")
    if not config.cache.prefix_reuse and (config.cache.persist or config.cache.prompt_cache):
        kept = "persist" if config.cache.persist else "prompt_cache"
        raise ConfigError(
            f"cache.{kept} cannot take effect without cache.prefix_reuse.", "Set cache.prefix_reuse to true."
        )
    if config.cache.blocks is not None and "memory_share" in config.cache.model_fields_set:
        raise ConfigError(
            "cache.memory_share cannot take effect when cache.blocks is set.", "Remove one of the two settings."
        )
    if config.engine.max_sequences >= config.engine.max_step_tokens:
        raise ConfigError(
            f"A step of {config.engine.max_step_tokens} tokens has no room for {config.engine.max_sequences} texts "
            "and a prompt.",
            "Lower engine.max_sequences, or raise engine.max_step_tokens.",
        )
    depth = config.draft.k if isinstance(config.draft.k, int) else 0
    if config.draft.kind != "none" and depth >= config.engine.max_step_tokens:
        raise ConfigError(
            f"A step of {config.engine.max_step_tokens} tokens cannot check {depth} drafted ones.",
            "Lower draft.k, or raise engine.max_step_tokens.",
        )
