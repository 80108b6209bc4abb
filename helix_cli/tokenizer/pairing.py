"""Which tokens of a draft model correspond to which of its target's.

Two tokens correspond when they say the same bytes (Timor et al., arXiv 2502.05202, intersect vocabularies in the same
way), special tokens when they have the same text or the same part to play: both begin a text, or both end it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from helix_cli.tokenizer.contents import entries_by_content
from helix_cli.tokenizer.difference import TokenDifference, first_difference, splits_alike
from helix_cli.tokenizer.tokenizer import Tokenizer

Relation = Literal["same", "mapped", "shared"]
"""Every id means the same; text is split alike and some ids differ; text is split in other ways."""

ROLES: Final = ("eos_token", "bos_token")
"""Ends first: where one token is both, a draft that ends a text matters more than one that begins it."""


@dataclass(frozen=True)
class Side:
    """A model's tokenizer, the rows of its embedding, and the tokens that end its texts."""

    tokenizer: Tokenizer
    vocab_size: int
    eos_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pairing:
    """The tokens that two models share. `to_draft` holds each target id at most once, and each draft id too."""

    relation: Relation
    to_draft: dict[int, int]
    target_size: int
    """Entries of the target's vocabulary; rows of its embedding where the vocabularies are the same."""
    draft_size: int
    coverage: float
    """The share of the target's tokens of ordinary text that the draft has too."""
    difference: TokenDifference | None
    """The first thing in which the tokenizers differ."""

    @property
    def num_shared(self) -> int:
        """Tokens that both have."""
        return len(self.to_draft)

    def __str__(self) -> str:
        """A phrase: how the vocabularies relate, with the numbers."""
        if self.relation == "same":
            return "same"
        words = "ids mapped" if self.relation == "mapped" else "shared"
        share = f"{100 * self.coverage:.0f} %"
        return f"{words}, {self.num_shared:,} of {self.target_size:,} tokens, {share} of ordinary text"


def pair(target: Side, draft: Side, ordinary_text: str) -> Pairing:
    """How the vocabularies of two models correspond; `ordinary_text` says how much of a text shared tokens make."""
    mine, theirs = target.tokenizer, draft.tokenizer
    difference = first_difference(mine, theirs)
    if difference is None:
        ids = range(min(target.vocab_size, draft.vocab_size))
        return Pairing("same", dict(zip(ids, ids, strict=True)), len(ids), len(ids), 1.0, None)
    sizes = _num_entries(target), _num_entries(draft)
    relation: Relation = "mapped" if splits_alike(mine, theirs) else "shared"
    plain = _by_spelling(target, draft) if relation == "mapped" else _by_content(target, draft)
    to_draft = plain | _special(target, draft)
    tokens = mine.encode_rendered(ordinary_text)
    coverage = sum(token in to_draft for token in tokens) / max(1, len(tokens))
    return Pairing(relation, to_draft, *sizes, coverage, difference)


def _num_entries(side: Side) -> int:
    return sum(id < side.vocab_size for id in side.tokenizer.vocabulary().values())


def _by_spelling(target: Side, draft: Side) -> dict[int, int]:
    """Entries that both spell alike; for tokenizers that are alike in all but their ids."""
    theirs = _plain(draft)
    return {id: theirs[entry] for entry, id in _plain(target).items() if entry in theirs}


def _plain(side: Side) -> dict[str, int]:
    special = side.tokenizer.special_ids
    entries = side.tokenizer.vocabulary()
    return {entry: id for entry, id in entries.items() if id < side.vocab_size and id not in special}


def _by_content(target: Side, draft: Side) -> dict[int, int]:
    theirs = entries_by_content(draft.tokenizer, draft.vocab_size)
    mine = entries_by_content(target.tokenizer, target.vocab_size)
    return {id: theirs[content] for content, id in mine.items() if content in theirs}


def _special(target: Side, draft: Side) -> dict[int, int]:
    """Special tokens of the same text, then those that end texts in both, and those that begin them."""
    mine, theirs = _special_entries(target), _special_entries(draft)
    pairs = {id: theirs[text] for text, id in mine.items() if text in theirs}

    def match(one: int | None, other: int | None) -> None:
        if one is not None and other is not None and one not in pairs and other not in pairs.values():
            pairs[one] = other

    for role in ROLES:
        match(
            mine.get(target.tokenizer.special_tokens.get(role, "")),
            theirs.get(draft.tokenizer.special_tokens.get(role, "")),
        )
    left = _left(target.eos_ids, mine.values(), pairs), _left(draft.eos_ids, theirs.values(), pairs.values())
    for one, other in zip(*left, strict=False):
        match(one, other)
    return pairs


def _left(ids: Iterable[int], known: Iterable[int], paired: Iterable[int]) -> list[int]:
    taken, special = set(paired), set(known)
    return [id for id in ids if id in special and id not in taken]


def _special_entries(side: Side) -> dict[str, int]:
    special = side.tokenizer.special_ids
    entries = side.tokenizer.vocabulary()
    return {entry: id for entry, id in entries.items() if id in special and id < side.vocab_size}
