"""Block verification (Sun et al., arXiv 2403.10444): as exact as the token rule, and keeps at least as many tokens.

A token that the target likes better than the draft does pays for an earlier one that it likes less. With P_0 = 1 and
P_i = min(1, P_{i-1} p(x_i) / q(x_i)), the run x_1 .. x_i survives with probability P_i: keep the largest i with
u_i < h_i, where h_K = P_K, and h_i = S_i / (S_i + 1 - P_i) for i < K with S_i = sum max(0, P_i p - q) at the prefix
x_1 .. x_i. The next token follows norm(max(0, P_i p - q)), or p when i = K.
"""

from __future__ import annotations

import torch

from helix_cli.core import Draft, Verdict
from helix_cli.sampling import Noise, Purpose, draw, draw_from, probabilities
from helix_cli.verify.law import acceptance, drafted_probabilities, excess, residual
from helix_cli.verify.rule import VerifyRule
from helix_cli.verify.token import TokenRule


def survivals(p: torch.Tensor, draft: Draft) -> list[float]:
    """P_0 .. P_K; `p` [k, V] are the target's laws at the drafted positions."""
    survival = [1.0]
    for wanted, drawn in drafted_probabilities(p, draft):
        survival.append(acceptance(survival[-1] * wanted, drawn))
    return survival


def lacks(p: torch.Tensor, draft: Draft, survival: list[float]) -> torch.Tensor:
    """max(0, P_i p - q) for i = 0 .. K-1: [k, V], of which row i sums to S_i."""
    factors = torch.tensor(survival[:-1], dtype=p.dtype, device=p.device).unsqueeze(-1)
    return excess(p * factors, draft, slice(None))


def keep(survival: float, mass: float) -> float:
    """h_i for i < K from `survival` P_i and `mass` S_i."""
    return 1.0 if survival >= 1.0 else mass / (mass + 1.0 - survival)


class BlockRule(VerifyRule):
    """Rejection sampling of a draft as one block. Its tokens are drawn as for the token rule."""

    name = "block"
    draw = TokenRule.draw

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        """Keep the longest run that passes its test; u_i belongs to the position of x_i."""
        k = draft.length
        if k == 0:
            return Verdict(0, draw(scores[0], noise.uniform(position, Purpose.NEXT)))
        p = probabilities(scores[:k])
        survival = survivals(p, draft)
        if noise.uniform(position + k - 1, Purpose.ACCEPT) < survival[k]:
            return Verdict(k, draw(scores[k], noise.uniform(position + k, Purpose.NEXT)))
        lacking = lacks(p, draft, survival)
        masses = lacking.sum(-1).tolist()
        i = k - 1
        while i > 0 and noise.uniform(position + i - 1, Purpose.ACCEPT) >= keep(survival[i], masses[i]):
            i -= 1
        return Verdict(i, draw_from(residual(lacking[i], p[i]), noise.uniform(position + i, Purpose.NEXT)))
