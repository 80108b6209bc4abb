"""Token by token rejection sampling (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).

Keep x drawn from q with probability min(1, p(x) / q(x)); at the first refusal draw from norm(max(0, p - q)); when all
are kept draw one more from p. The emitted tokens follow p exactly, for any q.
"""

from __future__ import annotations

import torch

from helix_cli.core import Draft, Verdict
from helix_cli.sampling import Noise, Purpose, draw, draw_from, probabilities
from helix_cli.verify.law import acceptance, drafted_probabilities, excess, residual
from helix_cli.verify.rule import Drawn, VerifyRule


def acceptances(p: torch.Tensor, draft: Draft) -> list[float]:
    """The chance [k] to keep each drafted token once those before it are kept; `p` [k, V] are the target's laws."""
    return [acceptance(wanted, drawn) for wanted, drawn in drafted_probabilities(p, draft)]


def replacement(p: torch.Tensor, draft: Draft, index: int) -> torch.Tensor:
    """Weights [V] of the token that replaces drafted token `index` when it is the first refused."""
    return residual(excess(p[index], draft, index), p[index])


class TokenRule(VerifyRule):
    """Rejection sampling, one token after the other."""

    name = "token"

    def draw(self, scores: torch.Tensor, noise: Noise, position: int) -> Drawn:
        """Draw from the draft's law, and hand that law on: it is the q of the ratio."""
        probs = probabilities(scores)
        token = draw_from(probs, noise.uniform(position, Purpose.DRAFT))
        return Drawn(torch.tensor(token, device=scores.device), probs)

    def judge(self, scores: torch.Tensor, draft: Draft, noise: Noise, position: int) -> Verdict:
        """Keep tokens up to the first refusal."""
        if draft.length == 0:
            return Verdict(0, draw(scores[0], noise.uniform(position, Purpose.NEXT)))
        p = probabilities(scores[: draft.length])
        for index, chance in enumerate(acceptances(p, draft)):
            if noise.uniform(position + index, Purpose.ACCEPT) >= chance:
                uniform = noise.uniform(position + index, Purpose.NEXT)
                return Verdict(index, draw_from(replacement(p, draft, index), uniform))
        uniform = noise.uniform(position + draft.length, Purpose.NEXT)
        return Verdict(draft.length, draw(scores[draft.length], uniform))
