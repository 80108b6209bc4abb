"""How target and draft talk of the same text: what their tokenizers allow, and what the config asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from helix_cli.core import Sequence
from helix_cli.draft.vocabulary import ByText, SharedTokens, Vocabulary
from helix_cli.errors import ModelError
from helix_cli.model.generation import read_generation_defaults
from helix_cli.sections import VocabularyName
from helix_cli.tokenizer import Pairing, Side, Tokenizer, pair

# Ordinary text of several kinds: how much of it do the tokens make that both models have?
ORDINARY_TEXT = Path(__file__).parent / "assets" / "calibration.txt"
LEAST_COVERAGE: Final = 0.2
"""Where shared tokens make less of ordinary text, drafts of them bring at most a quarter of a token a round."""


@dataclass(frozen=True)
class VocabularyChoice:
    """How the draft talks of each text, and what the user should know of it."""

    pairing: Pairing
    way: str
    """same, mapped, shared or text; auto where it follows from the temperature."""
    of: Callable[[Sequence], Vocabulary] | None
    """The way for one sequence; None where every id means the same."""

    def name(self, temperature: float) -> str:
        """The way that texts of this temperature go."""
        if self.way != "auto":
            return self.way
        return "shared" if temperature else "text"

    def facts(self, temperature: float) -> dict[str, Any]:
        """The same and the numbers, for JSON."""
        return {
            "way": self.name(temperature),
            "shared": self.pairing.num_shared,
            "target": self.pairing.target_size,
            "draft": self.pairing.draft_size,
            "coverage": self.pairing.coverage,
        }


def side_of(path: Path, tokenizer: Tokenizer, vocab_size: int) -> Side:
    """A checkpoint's tokenizer with the ids that its model knows. Raises ModelError."""
    return Side(tokenizer, vocab_size, read_generation_defaults(path).eos_ids)


def pair_sides(target: Side, draft: Side) -> Pairing:
    """How the vocabularies of two models correspond."""
    return pair(target, draft, ORDINARY_TEXT.read_text(encoding="utf-8"))


def choose_vocabulary(asked: VocabularyName, target: Side, draft: Side) -> VocabularyChoice:
    """The way that the config asks for, if the tokenizers allow it. Raises ModelError with the numbers if not."""
    pairing = pair_sides(target, draft)
    if pairing.relation == "same" and asked != "text":
        return VocabularyChoice(pairing, "same", None)
    refusal = refuse(asked, pairing)
    if refusal is not None:
        raise refusal
    settings = (target.tokenizer, draft.tokenizer, pairing, target.vocab_size, frozenset(target.eos_ids))
    if asked == "text":
        by_text = ByText(*settings)
        return VocabularyChoice(pairing, "text", lambda sequence: by_text)
    shared = SharedTokens(*settings)
    if asked == "shared" or pairing.relation == "mapped":
        return VocabularyChoice(pairing, shared.name, lambda sequence: shared)
    text = ByText(*settings)
    return VocabularyChoice(pairing, "auto", lambda sequence: shared if sequence.params.temperature else text)


def refuse(asked: VocabularyName, pairing: Pairing) -> ModelError | None:
    """Why a draft of this vocabulary cannot work; None where it can."""
    if asked == "text" or pairing.coverage >= LEAST_COVERAGE:
        return None
    return ModelError(
        f"The draft shares {pairing.num_shared:,} of the target's {pairing.target_size:,} tokens, which make "
        f"{100 * pairing.coverage:.0f} % of ordinary text; drafting needs {100 * LEAST_COVERAGE:.0f} %.",
        "Choose a draft of the same family, --set draft.vocabulary=text, or --drafter ngram.",
    )
