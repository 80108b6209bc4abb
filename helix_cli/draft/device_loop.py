"""Whole drafts drawn by the device: no token comes back to the host before the last one is chosen.

Only where each token is the likeliest one and all drafts are equally long, so that nothing is decided in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from helix_cli.core import Row
from helix_cli.model.runner import ModelRunner

if TYPE_CHECKING:
    from helix_cli.draft.model import Growing


def draft_on_device(
    runner: ModelRunner, growing: list[Growing], rows: list[Row], vocab_size: int, eos_ids: frozenset[int]
) -> bool:
    """Finishes the drafts of caught-up sequences, whose missing tokens are `rows`; False, changing nothing, where it
    has to be done token by token.
    """
    if not growing or not all(_needs_no_decision(one, growing[0].depth) for one in growing):
        return False
    drafted = runner.draft(rows, growing[0].depth, vocab_size)
    if drafted is None:
        return False
    for one, row, tokens in zip(growing, rows, drafted, strict=True):
        known = tokens[: tokens.index(-1)] if -1 in tokens else tokens
        # Every token but the last is fed; behind one that is no token nothing is true.
        fed = [*row.tokens, *known[: len(tokens) - 1]]
        one.held.tokens.extend(fed)
        one.held.table.num_computed += len(fed)
        ends = frozenset[int]() if one.sequence.params.ignore_eos else eos_ids
        one.tokens = _through_first(known, ends)
        one.closed = True
    return True


def _needs_no_decision(one: Growing, depth: int) -> bool:
    sequence = one.sequence
    is_free = one.wanted.token_floor == 0.0 and one.wanted.step_floor == 0.0
    return is_free and not one.closed and one.depth == depth and sequence.rule.draws_likeliest(sequence.params)


def _through_first(tokens: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Tokens up to the first of `ends`, which is kept."""
    place = next((place for place, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return list(tokens[: place + 1])
