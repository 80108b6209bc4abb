"""The law that counts are compared with, where rounding decides what top-k lets through."""

from __future__ import annotations

import pytest
import torch

from helix_cli.checks.checkpoints import TINY_EOS, tiny_pair
from helix_cli.checks.law import ENDED, UNCLEAR, Law, Sampled, at, compare, near_cut, target_law
from helix_cli.core import SamplingParams


def test_tokens_near_the_cut_are_those_that_may_change_places() -> None:
    logits = torch.tensor([1.0, 5.0, 3.0, 2.95, 3.05, 2.0])
    assert near_cut(logits, 2, 0.04) == {2, 4}
    assert near_cut(logits, 2, 0.06) == {2, 3, 4}
    assert near_cut(logits, 1, 0.5) == frozenset()
    assert near_cut(logits, 6, 0.5) == frozenset(), "nothing is cut"


def test_texts_are_told_apart_up_to_a_token_near_the_cut() -> None:
    law = Law({(1,): 0.6, (UNCLEAR,): 0.4}, {(): frozenset((2, 3))})
    assert law.fold({(1, 7): 5.0, (2, 7): 3.0, (3, 8): 1.0}) == {(1, 7): 5.0, (UNCLEAR,): 4.0}
    assert law.unclear == 0.4
    assert at((0, 1), {(UNCLEAR,): 4.0}) == {(UNCLEAR, ENDED): 4.0}


def test_a_token_that_rounding_lets_through_is_no_fault_and_any_other_is() -> None:
    chances: dict[tuple[int, ...], float] = {(1,): 0.5, (2,): 0.3, (3,): 0.2}
    clear, unclear = Law(chances), Law({(1,): 0.5, (2,): 0.3, (UNCLEAR,): 0.2}, {(): frozenset((3, 4))})

    def p_value(law: Law, counts: dict[tuple[int, ...], float]) -> float:
        return compare(Sampled(counts, 100, 1, 1), law, ((0,),))[0].p_value

    swapped: dict[tuple[int, ...], float] = {(1,): 50.0, (2,): 30.0, (3,): 12.0, (4,): 8.0}
    assert p_value(clear, swapped) == 0.0 and p_value(unclear, swapped) > 0.5
    assert p_value(unclear, {(1,): 50.0, (2,): 30.0, (5,): 20.0}) == 0.0
    assert p_value(unclear, {(1,): 20.0, (2,): 30.0, (4,): 50.0}) < 1e-6


def test_the_law_sums_to_one_whatever_is_unclear() -> None:
    target, _ = tiny_pair()
    params = SamplingParams(temperature=1.0, top_k=3)
    prompt = (3, 4, 5, 6)
    clear = target_law(target, prompt, params, TINY_EOS, 2)
    assert clear.unclear == 0.0 and not clear.near
    noisy = target_law(target, prompt, params, TINY_EOS, 2, noise=0.2)
    assert 0.0 < noisy.unclear < 1.0
    for law in (clear, noisy):
        assert sum(law.chances.values()) == pytest.approx(1.0, abs=1e-5)
    assert sum(noisy.fold(clear.chances).values()) == pytest.approx(1.0, abs=1e-5)
