"""The coupled rule: the text is a function of the seed, its law is the target's, and enough of a draft is kept."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from helix_cli.core import Draft, SamplingParams
from helix_cli.sampling import Noise, Purpose, adjust, probabilities, race
from helix_cli.verify import RULES
from helix_cli.verify.coupled import pick

COUPLED = RULES["coupled"]
VOCAB = 6


class Model:
    """Random scores after every prefix."""

    def __init__(self, seed: int, params: SamplingParams) -> None:
        self.seed, self.params = seed, params

    def scores(self, prefix: tuple[int, ...]) -> torch.Tensor:
        """Adjusted scores [V] of the token after `prefix`."""
        generator = torch.Generator().manual_seed(hash((self.seed, *prefix[-3:])) % 2**31)
        return adjust(torch.randn(1, VOCAB, generator=generator) * 2, self.params, prefix)[0]


def plain(model: Model, seed: int, length: int) -> tuple[int, ...]:
    """The text without drafts."""
    text: tuple[int, ...] = ()
    while len(text) < length:
        empty = Draft(torch.empty(0, dtype=torch.int64), 0)
        verdict = COUPLED.judge(model.scores(text)[None], empty, Noise(seed, len(text)), len(text))
        text = (*text, verdict.next_token)
    return text


@pytest.mark.parametrize(
    "params", [SamplingParams(temperature=1.0), SamplingParams(temperature=0.8, top_p=0.9, repetition_penalty=1.2)]
)
@pytest.mark.parametrize("drafter", ["random", "always right", "always wrong", "other model"])
def test_the_text_does_not_depend_on_the_draft(params: SamplingParams, drafter: str) -> None:
    model, other, chooser = Model(1, params), Model(2, params), random.Random(0)
    for seed in range(2):
        expected, text = plain(model, seed, 24), tuple[int, ...]()
        while len(text) < 24 - 4:
            noise, tokens = Noise(seed, len(text)), text
            for _ in range(chooser.randint(0, 4)):
                right = expected[len(tokens)]
                drafted = {
                    "random": chooser.randrange(VOCAB),
                    "always right": right,
                    "always wrong": (right + 1) % VOCAB,
                    "other model": int(COUPLED.draw(other.scores(tokens), noise, len(tokens)).token),
                }[drafter]
                tokens = (*tokens, drafted)
            k = len(tokens) - len(text)
            scores = torch.stack([model.scores(tokens[: len(text) + i]) for i in range(k + 1)])
            draft = Draft(torch.tensor(tokens[len(text) :], dtype=torch.int64), k)
            verdict = COUPLED.judge(scores, draft, noise, len(text))
            assert drafter != "always right" or verdict.num_accepted == k
            assert drafter != "always wrong" or verdict.num_accepted == 0
            text = (*tokens[: len(text) + verdict.num_accepted], verdict.next_token)
        assert text == expected[: len(text)]


def test_target_and_draft_draw_alike() -> None:
    scores = torch.randn(50)
    for position in range(20):
        drawn = COUPLED.draw(scores, Noise(3, 0), position)
        empty = Draft(torch.empty(0, dtype=torch.int64), 0)
        assert drawn.probs is None and drawn.token.shape == ()
        assert COUPLED.judge(scores[None], empty, Noise(3, 7), position).next_token == int(drawn.token)


def test_the_law_of_a_pick_is_softmax() -> None:
    scores = torch.tensor([1.0, -1.0, 0.5, -torch.inf, 2.0, -3.0, 0.0])
    law, n = probabilities(scores.double()), 2000
    picks = torch.tensor([pick(scores, Noise(seed, 0), position) for seed in range(4) for position in range(n // 4)])
    counts = torch.bincount(picks, minlength=len(scores)).double()
    assert counts[3] == 0
    expected = law[law > 0] * n
    chi_square = ((counts[law > 0] - expected) ** 2 / expected).sum().item()
    assert chi_square < 20.5  # 5 degrees of freedom: passed once in 1000


def test_accepts_at_least_what_the_bound_promises() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 5, generator=generator)
    variation = (probabilities(p) - probabilities(q)).abs().sum().item() / 2
    n = 1500
    same = sum(pick(p, Noise(0, 0), position) == pick(q, Noise(0, 0), position) for position in range(n))
    assert (1 - variation) / (1 + variation) - 0.03 < same / n < 1 - variation + 0.03


def test_removed_tokens_and_padding_move_nothing() -> None:
    scores = torch.randn(40)
    padded = torch.cat([scores, torch.full((9,), -torch.inf)])
    for seed, position in itertools.product(range(3), range(10)):
        assert pick(scores, Noise(seed, 0), position) == pick(padded, Noise(seed, 0), position)
        holes = adjust(scores[None], SamplingParams(temperature=1.0, top_k=9), [])[0]
        assert pick(holes, Noise(seed, 0), position) == race(holes, Noise(seed, 0).gumbel(position, Purpose.PICK, 40))
    only = torch.full((40,), -torch.inf)
    only[17] = -3.0
    assert pick(only, Noise(0, 0), 0) == 17
