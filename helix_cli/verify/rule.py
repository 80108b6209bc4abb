"""What a verification rule is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from helix_cli.core import Draft, SamplingParams, Verdict
from helix_cli.sampling import Noise, adjust


@dataclass(frozen=True)
class Drawn:
    """A draft token (int64 []), and the law it was drawn from ([V]; None: a point mass, whatever chose the token)."""

    token: torch.Tensor
    probs: torch.Tensor | None


class VerifyRule(Protocol):
    """Keeps the part of a draft that leaves the target's law as it was. Stateless and pure: noise is an argument.

    Every rule is exact for any drafter: one that asks `draw`, or one whose tokens are point masses. A draft may end
    where its tokens so far say so, as long as no token that was drawn is dropped.
    """

    name: str
    drafter_invariant: bool = False
    """Whether the text follows from the target's logits and the seed alone, whatever was drafted."""

    def draws_likeliest(self, params: SamplingParams) -> bool:
        """Whether `draw` takes the first maximum of the logits and reads nothing else."""
        return False

    def scores(
        self,
        logits: torch.Tensor,
        params: SamplingParams,
        prefix: Sequence[int],
        draft: Sequence[int] | torch.Tensor = (),
    ) -> torch.Tensor:
        """What `draw` and `judge` read of the logits: `adjust`, or less of it where less decides."""
        return adjust(logits, params, prefix, draft)

    def draw(self, scores: torch.Tensor, noise: Noise, position: int) -> Drawn:
        """Draw the draft's token at `position` from the draft model's scores [V]."""

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        """Decide on a draft, which may be empty.

        Args:
            scores: the target's [k + 1, V]; row i follows the first i drafted tokens.
            draft: k tokens, and the laws they were drawn from.
            noise: of this round, the same that drew the draft.
            position: of the first drafted token.
        """
