"""Target and draft pick with the same noise, and agree where their laws do (Daliri, Musco, Suresh, arXiv 2408.07978).

The token at a position is the argmax of scores + Gumbel noise that depends on the seed and the position alone, so the
text is a function of the seed: the same for every drafter, every depth, and without a draft. A drafted token is kept
with probability at least (1 - TV) / (1 + TV), somewhat below the token rule's 1 - TV.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from helix_cli.core import Draft, Verdict
from helix_cli.sampling import Noise, Purpose, race
from helix_cli.verify.rule import Drawn, VerifyRule


def pick(scores: torch.Tensor, noise: Noise, position: int) -> int:
    """The token of softmax(`scores` [V], on the CPU) that the noise of `position` chooses, among those not removed."""
    row = scores.numpy()
    tokens = np.flatnonzero(row > -math.inf)
    left = scores if tokens.size == row.size else torch.from_numpy(row[tokens])
    return int(tokens[race(left, noise.gumbel_of(position, Purpose.PICK, tokens))])


class CoupledRule(VerifyRule):
    """Accept while both picks agree. Races are run on the CPU, so that every device sees the same noise."""

    name = "coupled"
    drafter_invariant = True

    def draw(self, scores: torch.Tensor, noise: Noise, position: int) -> Drawn:
        """The draft's pick."""
        return Drawn(torch.tensor(pick(scores.cpu(), noise, position), device=scores.device), None)

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        """Every token is the target's own pick; a drafted one that equals it saved a step."""
        scores = scores.cpu()
        for index, drafted in enumerate(draft.tokens.tolist()):
            token = pick(scores[index], noise, position + index)
            if token != drafted:
                return Verdict(index, token)
        return Verdict(draft.length, pick(scores[draft.length], noise, position + draft.length))
