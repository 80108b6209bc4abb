"""Which drafter runs when the file, the command line and the target each have a say. Standard library only.

A drafter that is not named is the draft model that is named, or that the demo target brings; without one it is n-grams
of the text itself, which need no second model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

DEMO: Final = "demo"
"""The name, as a target or a draft, of the pair of small models that ships with Helix."""

WITHOUT_A_MODEL: Final = "ngram"
"""The drafter of a target that has no draft model."""

WITH_A_MODEL: Final = ("model", "auto")
"""The drafters that run a draft model of their own."""

EARLY_EXIT_SHARE: Final = 8
"""One layer in so many, at least one, drafts where early exit is not told how many."""

DRAFTERS_USING: Final[Mapping[str, tuple[str, ...]]] = {
    "path": ("model", "auto"),
    "dtype": ("model", "auto"),
    "weights": ("model", "auto"),
    "vocabulary": ("model", "auto"),
    "k": ("ngram", "model", "early_exit", "auto"),
    "layers": ("early_exit",),
    "ngram_max": ("ngram", "auto"),
    "ngram_min": ("ngram", "auto"),
}
"""The drafters that use each setting of the draft section. With any other drafter it could not take effect."""


def applies(key: str, kind: Any) -> bool:
    """Whether drafter `kind` uses the setting `key` of the draft section; an unknown key is judged elsewhere."""
    return key not in DRAFTERS_USING or kind in DRAFTERS_USING[key]


def early_exit_layers(wanted: int | None, num_layers: int) -> int:
    """How many of a target's layers draft by early exit."""
    return wanted or max(1, num_layers // EARLY_EXIT_SHARE)


def choose_drafter(target: Any, draft: Mapping[str, Any]) -> dict[str, Any]:
    """The kind of drafter for what is written of the draft section, and the demo's draft model where it belongs."""
    kind = draft.get("kind")
    if kind is None:
        kind = "model" if draft.get("path") is not None or target == DEMO else WITHOUT_A_MODEL
    if kind in WITH_A_MODEL and target == DEMO and draft.get("path") is None:
        return {"kind": kind, "path": DEMO}
    return {"kind": kind}


def keep_what_applies(
    written: Mapping[str, Any],
    chosen: Mapping[str, Any],
    targets: tuple[Any, Any],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """The file's draft section `written` without what the command line's `chosen` draft settings or target replace.

    `targets` are the file's target and the one that runs. A drafter that is chosen replaces the file's, and a target
    that is chosen does not keep the draft model of another one; settings that the drafter which remains does not use
    are dropped. `tell` hears about a drafter that nobody named.
    """
    old_target, target = targets
    names_drafter = chosen.get("kind") is not None or chosen.get("path") is not None
    if target == old_target and not names_drafter:
        return dict(written)
    draft = dict(written)
    had_model = choose_drafter(old_target, written)["kind"] in WITH_A_MODEL
    if target != old_target:
        draft.pop("path", None)
    if names_drafter or (target != old_target and had_model):
        draft.pop("kind", None)
    kind = choose_drafter(target, draft | dict(chosen))["kind"]
    if had_model and not names_drafter and kind == WITHOUT_A_MODEL:
        tell(f"No draft model was given for {target}, so n-grams of the text itself propose tokens.")
    return {key: value for key, value in draft.items() if applies(key, kind)}
