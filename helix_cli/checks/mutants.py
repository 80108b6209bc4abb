"""Rules with one classic mistake each. The tests of a law must refuse all of them, or their silence means nothing."""

from __future__ import annotations

import torch

from helix_cli.core import Draft, Verdict
from helix_cli.sampling import Noise, Purpose, draw, draw_from, probabilities
from helix_cli.verify.rule import Drawn
from helix_cli.verify.token import TokenRule, acceptances, replacement


class SoftGreedy(TokenRule):
    """Draws the draft's likeliest token, and claims to have drawn it from the draft's whole law."""

    name = "soft q with a greedy draft"

    def draw(self, scores: torch.Tensor, noise: Noise, position: int) -> Drawn:
        return Drawn(scores.argmax(), probabilities(scores))


class NoResidual(TokenRule):
    """Replaces a refused token by a draw from p, not from what the draft gives too little of."""

    name = "residual omitted"

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        p = probabilities(scores)
        for index, chance in enumerate(acceptances(p[: draft.length], draft)):
            if noise.uniform(position + index, Purpose.ACCEPT) >= chance:
                return Verdict(index, draw_from(p[index], noise.uniform(position + index, Purpose.NEXT)))
        return Verdict(draft.length, draw(scores[draft.length], noise.uniform(position + draft.length, Purpose.NEXT)))


class BonusFromDraft(TokenRule):
    """Draws the token behind a draft that was kept whole from the draft's last law."""

    name = "bonus from q"

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        verdict = super().judge(scores, draft, noise, position)
        if draft.length == 0 or draft.probs is None or verdict.num_accepted < draft.length:
            return verdict
        return Verdict(draft.length, draw_from(draft.probs[-1], noise.uniform(position + draft.length, Purpose.NEXT)))


class RowOffByOne(TokenRule):
    """Judges each drafted token by the logits behind it instead of those before it."""

    name = "row off by one"

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        shifted = torch.cat([scores[1:], scores[-1:]]) if draft.length else scores
        return super().judge(shifted, draft, noise, position)


class StaleNoise(TokenRule):
    """Accepts with the noise that drew the token."""

    name = "noise used twice"

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        p = probabilities(scores)
        for index, chance in enumerate(acceptances(p[: draft.length], draft)):
            if noise.uniform(position + index, Purpose.DRAFT) >= chance:
                weights = replacement(p[: draft.length], draft, index)
                return Verdict(index, draw_from(weights, noise.uniform(position + index, Purpose.NEXT)))
        return Verdict(draft.length, draw(scores[draft.length], noise.uniform(position + draft.length, Purpose.NEXT)))


MUTANTS = {
    "soft_q": SoftGreedy(),
    "no_residual": NoResidual(),
    "bonus_from_q": BonusFromDraft(),
    "row_off_by_one": RowOffByOne(),
    "stale_noise": StaleNoise(),
}
"""By the name that the check of it has."""
