"""How a draft model and its target talk of the same text: in the same ids, in ids that correspond, or in letters.

A draft model reads the committed text in its own tokens and proposes in the target's. Whatever the way, the law that a
token was drawn from is the law that the verification rule is told, so every way leaves the target's law as it is.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from helix_cli.core import Sequence
from helix_cli.tokenizer import Pairing, Tokenizer
from helix_cli.tokenizer.pieces import Pieces
from helix_cli.tokenizer.retelling import Respelling, Retelling, encode_after
from helix_cli.verify import RULES
from helix_cli.verify.rule import VerifyRule

LAST_TOKENS = 8
"""Committed tokens that a drafted text is joined to when it is tokenised for the target."""


class Reading(NamedTuple):
    """The committed text in the draft's tokens, the first `num_settled` of which will not change any more."""

    tokens: list[int]
    num_settled: int


class Vocabulary(Protocol):
    """One way to draft over a vocabulary. Tokens are drawn from `fit`'s rows, by `rule`, with `prefix` before them."""

    name: str

    def read(self, sequence: Sequence) -> Reading | None:
        """The committed text for the draft; None where it cannot be told now, as within a character."""

    def prefix(self, sequence: Sequence, reading: Reading) -> list[int]:
        """The committed text in the ids that tokens are drawn in."""

    def rule(self, sequence: Sequence) -> VerifyRule:
        """What draws."""

    def fit(self, logits: torch.Tensor) -> torch.Tensor:
        """The draft's logits [R, draft's rows] over the ids that tokens are drawn in; -inf where it has no token."""

    def to_draft(self, token: int) -> int:
        """The draft's id of a token that was drawn."""

    def ends(self, sequence: Sequence, token: int) -> bool:
        """Whether a draft ends after this drawn token."""

    def proposal(self, sequence: Sequence, reading: Reading, drawn: list[int]) -> list[int] | None:
        """What is proposed to the target instead of the tokens that were drawn; None for these themselves."""

    def forget(self, sequence_id: int) -> None:
        """Releases what is held for a sequence."""


class SameIds:
    """Both models mean the same by every id. Checkpoints pad equal vocabularies to different sizes."""

    name = "same"

    def __init__(self, target_vocab_size: int, eos_ids: frozenset[int]) -> None:
        self.target_vocab_size = target_vocab_size
        self.eos_ids = eos_ids

    def read(self, sequence: Sequence) -> Reading | None:
        return Reading(sequence.tokens, len(sequence.tokens))

    def prefix(self, sequence: Sequence, reading: Reading) -> list[int]:
        return sequence.tokens

    def rule(self, sequence: Sequence) -> VerifyRule:
        return sequence.rule

    def fit(self, logits: torch.Tensor) -> torch.Tensor:
        surplus = logits.shape[-1] - self.target_vocab_size
        if surplus > 0:
            return logits[:, : self.target_vocab_size]
        if surplus < 0:
            return torch.nn.functional.pad(logits, (0, -surplus), value=float("-inf"))
        return logits

    def to_draft(self, token: int) -> int:
        return token

    def ends(self, sequence: Sequence, token: int) -> bool:
        return token in self.eos_ids and not sequence.params.ignore_eos

    def proposal(self, sequence: Sequence, reading: Reading, drawn: list[int]) -> list[int] | None:
        return None

    def forget(self, sequence_id: int) -> None:
        return None


class SharedTokens(SameIds):
    """The draft's law restricted to the tokens that both models have, in the target's ids.

    Softmax over what is left renormalises it, and that is the law that a token is drawn from (token-level intersection:
    Timor et al., arXiv 2502.05202). Where the tokenizers differ in their ids alone, nearly everything is left.
    """

    def __init__(
        self, target: Tokenizer, draft: Tokenizer, pairing: Pairing, target_vocab_size: int, eos_ids: frozenset[int]
    ) -> None:
        super().__init__(target_vocab_size, eos_ids)
        self.name = pairing.relation
        self._target, self._draft, self._pairing = target, draft, pairing
        self._kind = Respelling if pairing.relation == "mapped" else Retelling
        self._told: dict[int, Respelling | Retelling] = {}
        self._places = torch.tensor(list(pairing.to_draft), dtype=torch.long)
        self._sources = torch.tensor(list(pairing.to_draft.values()), dtype=torch.long)

    def read(self, sequence: Sequence) -> Reading | None:
        told = self._told.get(sequence.id)
        if told is None:
            told = self._told[sequence.id] = self._kind(self._target, self._draft, self._pairing)
        is_whole = told.follow(sequence.tokens)
        return Reading(told.tokens, told.num_settled) if is_whole and told.tokens else None

    def fit(self, logits: torch.Tensor) -> torch.Tensor:
        if self._places.device != logits.device:
            self._places, self._sources = self._places.to(logits.device), self._sources.to(logits.device)
        fitted = logits.new_full((len(logits), self.target_vocab_size), float("-inf"))
        # Not index_copy_, for which DirectML has no kernel.
        fitted[:, self._places] = logits.index_select(1, self._sources)
        return fitted

    def to_draft(self, token: int) -> int:
        return self._pairing.to_draft[token]

    def forget(self, sequence_id: int) -> None:
        self._told.pop(sequence_id, None)


class ByText(SharedTokens):
    """The draft writes its likeliest tokens, all of its own, and their text is proposed in the target's tokens.

    Exact match of strings (Timor et al., arXiv 2502.05202). What is proposed follows from the committed text alone, a
    point mass, so it may be cut anywhere and is exact under every rule.
    """

    def __init__(
        self, target: Tokenizer, draft: Tokenizer, pairing: Pairing, target_vocab_size: int, eos_ids: frozenset[int]
    ) -> None:
        super().__init__(target, draft, pairing, target_vocab_size, eos_ids)
        self.name = "text"
        self._to_target = {other: one for one, other in pairing.to_draft.items()}
        self._num_entries = 1 + max(draft.vocabulary().values())

    def prefix(self, sequence: Sequence, reading: Reading) -> list[int]:
        return reading.tokens

    def rule(self, sequence: Sequence) -> VerifyRule:
        return RULES["greedy"]

    def fit(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[:, : self._num_entries]

    def to_draft(self, token: int) -> int:
        return token

    def ends(self, sequence: Sequence, token: int) -> bool:
        return token in self._draft.special_ids

    def proposal(self, sequence: Sequence, reading: Reading, drawn: list[int]) -> list[int] | None:
        special = self._draft.special_ids
        pieces = Pieces(self._draft, special, context=reading.tokens)
        text = "".join(pieces.push(token) for token in drawn)
        before = self._target.decode(sequence.tokens[-LAST_TOKENS:], skip_special_tokens=False)
        proposed = encode_after(self._target, before, text) if text else []
        end = self._to_target.get(drawn[-1])
        if end is not None and drawn[-1] in special and pieces.is_whole:
            proposed.append(end)
        # Text may spell the name of a special token, and nothing is proposed beyond the end.
        ends = (place + 1 for place, token in enumerate(proposed) if token in self.eos_ids)
        return proposed[: next(ends, len(proposed))]
