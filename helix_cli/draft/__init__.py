"""The drafters by name. A new one is one file and one line here; the contract tests find it by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helix_cli.core import Sequence
from helix_cli.draft.auto import AutoDrafter
from helix_cli.draft.drafter import Drafter
from helix_cli.draft.model import ModelDrafter
from helix_cli.draft.ngram import NgramDrafter
from helix_cli.draft.none import NoDrafter
from helix_cli.draft.vocabulary import SameIds, Vocabulary
from helix_cli.model.runner import ModelRunner


@dataclass(frozen=True)
class DraftSetup:
    """What a drafter may be built from; `runner` runs the draft model of the drafters that have one."""

    eos_ids: frozenset[int]
    target_vocab_size: int
    max_step_tokens: int
    ngram_min: int
    ngram_max: int
    runner: ModelRunner | None = None
    vocabulary_of: Callable[[Sequence], Vocabulary] | None = None
    """How its model talks of a sequence; None where it means the same by every id."""


def _ngram(setup: DraftSetup) -> Drafter:
    return NgramDrafter(setup.ngram_min, setup.ngram_max, setup.eos_ids)


def _model(setup: DraftSetup) -> ModelDrafter:
    assert setup.runner is not None, "a model drafter needs a runner"
    same = SameIds(setup.target_vocab_size, setup.eos_ids)
    return ModelDrafter(
        setup.runner, setup.vocabulary_of or (lambda sequence: same), max_step_tokens=setup.max_step_tokens
    )


def _auto(setup: DraftSetup) -> Drafter:
    return AutoDrafter(NgramDrafter(setup.ngram_min, setup.ngram_max, setup.eos_ids), _model(setup))


DRAFTERS: dict[str, Callable[[DraftSetup], Drafter]] = {
    "none": lambda setup: NoDrafter(),
    "ngram": _ngram,
    "model": _model,
    # The target's own first layers, norm and head: a draft model like any other, with weights that cost nothing more.
    "early_exit": _model,
    "auto": _auto,
}
