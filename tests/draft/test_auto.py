"""Drafter `auto` copies where copies are kept, and asks the draft model elsewhere."""

from __future__ import annotations

from helix_cli.cache.table import BlockTable
from helix_cli.core import SamplingParams, Sequence, Wanted
from helix_cli.draft.auto import AutoDrafter
from helix_cli.stats import Trace
from helix_cli.verify import RULES
from tests.harness import build

LOOP = [3, 4, 5, 6, 7, 8, 9, 10, 11, 12] * 2
NEW = [3, 9, 4, 12, 5, 8, 6, 11]


def sequence_of(number: int, tokens: list[int]) -> Sequence:
    """A greedy sequence."""
    params = SamplingParams(temperature=0.0, ignore_eos=True)
    trace = Trace(len(tokens), 4, 0.0)
    return Sequence(number, list(tokens), len(tokens), params, 0, 0, 0, RULES["greedy"], BlockTable(), trace)


def test_repeated_text_is_copied_until_copies_prove_worse() -> None:
    drafter = build("auto").engine.drafter
    assert isinstance(drafter, AutoDrafter)
    loop, new = sequence_of(0, LOOP), sequence_of(1, NEW)
    assert (drafter.source(loop), drafter.source(new)) == ("ngram", "model")
    drafts = drafter.propose([Wanted(loop, 3), Wanted(new, 3)])
    assert drafts[0].tokens.tolist() == LOOP[:3] and drafts[1].length == 3
    drafter.observe(loop, drafts[0], 0)
    drafter.observe(new, drafts[1], 3)
    assert drafter.source(loop) == "model"
    drafter.forget(0)
    drafter.forget(1)
    drafter.check()
