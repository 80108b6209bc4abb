"""Keep drafted tokens while they are the target's most likely ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from helix_cli.core import Draft, SamplingParams, Verdict
from helix_cli.sampling import Noise, first_argmax, penalise
from helix_cli.verify.rule import Drawn, VerifyRule


class GreedyRule(VerifyRule):
    """Accept while the draft equals the target's argmax. Reads nothing but the argmax, so raw logits do as scores."""

    name = "greedy"
    drafter_invariant = True

    def draws_likeliest(self, params: SamplingParams) -> bool:
        """Unless a penalty changes the logits."""
        return params.repetition_penalty == 1.0

    def scores(
        self,
        logits: torch.Tensor,
        params: SamplingParams,
        prefix: Sequence[int],
        draft: Sequence[int] | torch.Tensor = (),
    ) -> torch.Tensor:
        """The penalised logits: no link of the chain after the penalty moves the argmax."""
        return penalise(logits, params, prefix, draft)

    def draw(self, scores: torch.Tensor, noise: Noise, position: int) -> Drawn:
        """The draft's most likely token."""
        return Drawn(first_argmax(scores), None)

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        """Keep the longest prefix on which both agree."""
        picks = first_argmax(scores).tolist()
        for index, drafted in enumerate(draft.tokens.tolist()):
            if picks[index] != drafted:
                return Verdict(index, picks[index])
        return Verdict(draft.length, picks[-1])
