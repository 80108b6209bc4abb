"""The arithmetic that the token and the block rule share: how often a drafted token stays, and what replaces it."""

from __future__ import annotations

import torch

from helix_cli.core import Draft


def acceptance(p: float, q: float) -> float:
    """min(1, p / q), the chance to keep a token that was drawn with probability `q` and is wanted with `p`.

    Exactly 0 when `p` is: `uniform < acceptance(p, q)` is the strict `uniform * q < p`, so even uniform 0 refuses it.
    """
    if p >= q:
        return 1.0 if p > 0.0 else 0.0
    return p / q


def drafted_probabilities(p: torch.Tensor, draft: Draft) -> list[tuple[float, float]]:
    """(p, q) of each drafted token: of the target's laws `p` [k, V], and of those it was drawn from."""
    wanted = _at(p, draft.tokens)
    drawn = [1.0] * len(wanted) if draft.probs is None else _at(draft.probs, draft.tokens)
    return list(zip(wanted, drawn, strict=True))


def _at(laws: torch.Tensor, tokens: torch.Tensor) -> list[float]:
    return laws.gather(-1, tokens.to(laws.device).unsqueeze(-1)).squeeze(-1).tolist()


def excess(wanted: torch.Tensor, draft: Draft, rows: int | slice) -> torch.Tensor:
    """max(0, wanted - q): what the draft gives too little of, in a new tensor.

    Args:
        wanted: [V] or [m, V], the target's law at each drafted position of `rows`, times a factor of at most 1.
        draft: q is its law there; a point mass takes away all that is wanted of its token.
        rows: which drafted positions.
    """
    if draft.probs is None:
        return wanted.clone().scatter_(-1, draft.tokens[rows].to(wanted.device).unsqueeze(-1), 0.0)
    return (wanted - draft.probs[rows].to(wanted.device)).clamp_min_(0.0)


def residual(lacking: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The weights [V] that replace a refused token: what is `lacking`, or `p` where rounding left nothing of it."""
    return lacking if lacking.sum() > 0.0 else p
