"""Round after round with real noise: the text as a whole follows the target's law.

One round at a time, every rule is exact by enumeration. This is about what rounds share: a position whose draft was
refused is drafted again, and must not meet the noise that led to the refusal.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import torch

from helix_cli.core import Draft
from helix_cli.sampling import Noise, probabilities
from helix_cli.verify import RULES

TARGET, DRAFT = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.8, 0.2]).log()
K, LENGTH = 3, 4
LIMIT = 37.7
"""Chi-square of 15 degrees of freedom is above it once in 1000."""


def write(name: str, noise_of_round: Callable[[int], Noise]) -> tuple[int, ...]:
    """A text by speculative rounds."""
    rule, text = RULES[name], tuple[int, ...]()
    while len(text) < LENGTH:
        noise = noise_of_round(len(text))
        drawn = [rule.draw(DRAFT, noise, len(text) + i) for i in range(K)]
        laws = [one.probs for one in drawn if one.probs is not None]
        draft = Draft(torch.stack([one.token for one in drawn]), K, torch.stack(laws) if laws else None)
        verdict = rule.judge(TARGET.expand(K + 1, -1), draft, noise, len(text))
        text = (*text, *draft.tokens[: verdict.num_accepted].tolist(), verdict.next_token)
    return text[:LENGTH]


def chi_square(name: str, texts: int, noise: Callable[[int, int], Noise]) -> float:
    """Of the texts of many seeds against the target's law."""
    counts = Counter(write(name, partial(noise, seed)) for seed in range(texts))
    law, total = probabilities(TARGET).tolist(), 0.0
    for text in itertools.product(range(2), repeat=LENGTH):
        expected = float(texts * torch.tensor([law[x] for x in text]).prod())
        total += (counts[text] - expected) ** 2 / expected
    return total


@pytest.mark.parametrize(("name", "texts"), [("token", 400), ("block", 1000), ("coupled", 300)])
def test_the_text_follows_the_target(name: str, texts: int) -> None:
    assert chi_square(name, texts, Noise) < LIMIT


def test_noise_that_ignores_the_round_would_be_caught() -> None:
    assert chi_square("block", 1000, lambda seed, start: Noise(seed, 0)) > LIMIT
