"""How many tokens to propose for a sequence; 0 is a legal answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FixedDepth:
    """Proposes `k` tokens, fewer where the sequence must end sooner."""

    k: int

    def depth(self, num_tokens: int, limit: int, share: int) -> int:
        """Depth for a sequence of `num_tokens` that ends at `limit` tokens and may feed `share` tokens in this step.

        A round emits the draft and one token more, so the last position is left to the target itself.
        """
        return max(0, min(self.k, limit - num_tokens - 1, share - 1))
