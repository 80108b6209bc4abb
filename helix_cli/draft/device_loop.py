"""Whole drafts drawn by the device: no token comes back to the host before the last one is chosen.

Only where each token is the likeliest one and all drafts are equally long, so that nothing is decided in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from helix_cli.core import Row
from helix_cli.draft.vocabulary import SameIds
from helix_cli.model.runner import ModelRunner

if TYPE_CHECKING:
    from helix_cli.draft.model import Growing


def draft_on_device(runner: ModelRunner, growing: list[Growing], rows: list[Row]) -> bool:
    """Finishes the drafts of caught-up sequences, whose missing tokens are `rows`; False, changing nothing, where it
    has to be done token by token.
    """
    if not growing or not all(_needs_no_decision(one, growing[0].depth) for one in growing):
        return False
    vocabulary = growing[0].vocabulary
    assert isinstance(vocabulary, SameIds)
    drafted = runner.draft(rows, growing[0].depth, vocabulary.target_vocab_size)
    if drafted is None:
        return False
    for one, row, tokens in zip(growing, rows, drafted, strict=True):
        known = tokens[: tokens.index(-1)] if -1 in tokens else tokens
        # Every token but the last is fed; behind one that is no token nothing is true.
        fed = [*row.tokens, *known[: len(tokens) - 1]]
        one.held.tokens.extend(fed)
        one.held.table.num_computed += len(fed)
        one.tokens = _through_end(one, known)
        one.closed = True
    return True


def _needs_no_decision(one: Growing, depth: int) -> bool:
    sequence = one.sequence
    is_free = one.wanted.token_floor == 0.0 and one.wanted.step_floor == 0.0
    # The device has the logits as the model gives them: a mapped vocabulary is put together on the host.
    is_plain = type(one.vocabulary) is SameIds and sequence.rule.draws_likeliest(sequence.params)
    return is_free and is_plain and not one.closed and one.depth == depth


def _through_end(one: Growing, tokens: Sequence[int]) -> list[int]:
    """Tokens up to the first that ends a draft, which is kept."""
    ends = (place for place, token in enumerate(tokens) if one.vocabulary.ends(one.sequence, token))
    return list(tokens[: next(ends, len(tokens) - 1) + 1])
