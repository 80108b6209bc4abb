"""Do two tokenizers mean the same by every id? A draft model speaks to its target in ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from helix_cli.tokenizer.tokenizer import Tokenizer

_PARTS = ("model", "normalizer", "pre_tokenizer")
"""The parts of tokenizer.json that decide how text is split, apart from the vocabulary."""


@dataclass(frozen=True)
class TokenDifference:
    """The first thing in which two tokenizers differ."""

    part: str
    """`vocabulary`, or the part of tokenizer.json that differs: `merges`, `normalizer`, `pre_tokenizer`, `model`."""
    id: int | None = None
    """The first id with two meanings, when the vocabulary differs."""
    first: str | None = None
    second: str | None = None
    """What the id means to each; None where it means nothing."""

    def __str__(self) -> str:
        """A sentence without its full stop."""
        if self.id is None:
            return f"they have the same vocabulary but split text differently ({self.part})"
        return f"token {self.id} is {_shown(self.first)} in one and {_shown(self.second)} in the other"


def first_difference(first: Tokenizer, second: Tokenizer) -> TokenDifference | None:
    """The first difference in content, None when every id means the same and text is split alike.

    The number of rows in the models' embeddings, which is often padded, plays no part.
    """
    mine, theirs = first.serialised(), second.serialised()
    if mine is not None and mine == theirs:
        return None
    by_id, other_by_id = _entries(first), _entries(second)
    for id in sorted(by_id.keys() | other_by_id.keys()):
        if by_id.get(id) != other_by_id.get(id):
            return TokenDifference("vocabulary", id, by_id.get(id), other_by_id.get(id))
    if mine is None or theirs is None:
        return None
    return _pipeline_difference(json.loads(mine), json.loads(theirs))


def splits_alike(first: Tokenizer, second: Tokenizer) -> bool:
    """Whether both cut text in the same places, into entries of the same spelling whose ids may differ.

    Added tokens, which are cut out before anything else, may differ too: one of them may have markers of its own.
    """
    mine, theirs = first.serialised(), second.serialised()
    if mine is None or theirs is None:
        return False
    one, other = json.loads(mine), json.loads(theirs)
    if any(one.get(part) != other.get(part) for part in _PARTS if part != "model"):
        return False
    return bool(_without_ids(one["model"]) == _without_ids(other["model"]))


def _without_ids(model: dict[str, Any]) -> dict[str, Any]:
    """The model of a tokenizer.json, its entries (with their scores, where they have any) as a set."""
    vocabulary = model.get("vocab") or {}
    entries = vocabulary if isinstance(vocabulary, dict) else map(tuple, vocabulary)
    return model | {"vocab": frozenset(entries)}


def _pipeline_difference(mine: dict[str, Any], theirs: dict[str, Any]) -> TokenDifference | None:
    for part in _PARTS:
        if mine.get(part) != theirs.get(part):
            merges = part == "model" and mine[part].get("merges") != theirs[part].get("merges")
            return TokenDifference("merges" if merges else part)
    return None


def _entries(tokenizer: Tokenizer) -> dict[int, str]:
    return {id: token for token, id in tokenizer.vocabulary().items()}


def _shown(token: str | None) -> str:
    return "missing" if token is None else repr(token)
