"""The greedy rule keeps what equals the argmax, whether it sees one-hot scores or raw logits."""

from __future__ import annotations

import pytest
import torch

from helix_cli.core import Draft, SamplingParams, Verdict
from helix_cli.sampling import Noise, adjust
from helix_cli.verify import RULES

GREEDY = RULES["greedy"]
LOGITS = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 2.0], [0.0, 1.0, 5.0]])


@pytest.mark.parametrize(
    ("tokens", "verdict"),
    [
        ([1, 0], Verdict(2, 2)),
        ([1, 2], Verdict(1, 0)),  # of equal logits the first wins
        ([1, 1], Verdict(1, 0)),
        ([0, 0], Verdict(0, 1)),
        ([1], Verdict(1, 0)),
        ([], Verdict(0, 1)),
    ],
)
def test_keeps_the_prefix_that_agrees(tokens: list[int], verdict: Verdict) -> None:
    draft, noise = Draft(torch.tensor(tokens, dtype=torch.int64), len(tokens)), Noise(0, 0)
    logits = LOGITS[: len(tokens) + 1]
    for scores in (logits, adjust(logits, SamplingParams(), [], tokens), logits.double()):
        assert GREEDY.judge(scores, draft, noise, 5) == verdict


def test_draws_the_argmax_as_a_point_mass() -> None:
    drawn = GREEDY.draw(LOGITS[1], Noise(0, 0), 5)
    assert drawn.token.item() == 0 and drawn.token.shape == () and drawn.token.dtype == torch.int64
    assert drawn.probs is None


def test_reads_the_logits_themselves_unless_there_is_a_penalty() -> None:
    assert GREEDY.scores(LOGITS, SamplingParams(), [0], [1, 2]) is LOGITS
    params = SamplingParams(repetition_penalty=4.0)
    scores = GREEDY.scores(LOGITS, params, [0], [1, 2])
    assert scores.argmax(-1).tolist() == adjust(LOGITS, params, [0], [1, 2]).argmax(-1).tolist() == [1, 2, 2]
