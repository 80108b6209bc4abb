"""From logits to a token: the noise, the logits-processor chain, and two ways to draw.

Everything is a pure function of its arguments; randomness comes in as `Noise`, which is a hash and not a running
generator. On a CPU numpy finds maxima, sorts and picks elements 4 to 20 times as fast as torch, so some functions look
at CPU tensors through numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch

from helix_cli.core import SamplingParams


class Purpose(IntEnum):
    """What a piece of noise decides, so that no two decisions ever share one."""

    PICK = 0
    DRAFT = 1
    ACCEPT = 2
    NEXT = 3


class Noise:
    """The randomness of one round of one sequence: a hash of (seed, round, position, purpose).

    A round is a draft and its verdict; `start` is the position of its first drafted token, which no two rounds of a
    sequence share. A position that was drafted and not kept is drafted again in the next round, and the block rule
    rejects a run because of the tokens in it, so drawing them from the same uniform again would bias the text. PICK
    alone leaves the round out: that noise belongs to the position, which makes the coupled rule's text independent of
    the rounds.

    Args:
        seed: any integer.
        start: position of the first token this round drafts, `len(sequence.tokens)`.
    """

    def __init__(self, seed: int, start: int) -> None:
        self._seed = seed
        self._start = start

    def uniform(self, position: int, purpose: Purpose) -> float:
        """One float64 in [0, 1) with 53 random bits."""
        return (self._word(position, purpose) >> 11) * 2.0**-53

    def gumbel(self, position: int, purpose: Purpose, size: int) -> torch.Tensor:
        """Standard Gumbel noise for the tokens 0 to `size` - 1: float32 [size], finite, on the CPU."""
        return self.gumbel_of(position, purpose, np.arange(size, dtype=np.int64))

    def gumbel_of(self, position: int, purpose: Purpose, tokens: npt.NDArray[np.int64]) -> torch.Tensor:
        """The same noise for some `tokens` [m] only, at the cost of m: float32 [m]."""
        bits = _splitmix(self._word(position, purpose), tokens.view(np.uint64))
        fraction = (bits >> np.uint64(1)).view(np.int64).astype(np.float32)
        fraction *= np.float32(2.0**-63)
        # -log(-log(1 - fraction)): small exponentials win, so log1p keeps their relative precision. The bounds keep
        # both logarithms finite; a token in 2^24 meets the upper one, where it wins nothing, one in 2^64 the lower.
        np.clip(fraction, 2.0**-64, 1.0 - 2.0**-24, out=fraction)
        return torch.from_numpy(fraction).neg_().log1p_().neg_().log_().neg_()

    def _word(self, position: int, purpose: Purpose) -> int:
        """64 bits that look independent for every other seed, round, position and purpose."""
        start = "" if purpose is Purpose.PICK else self._start
        key = f"{self._seed}/{start}/{position}/{int(purpose)}".encode()
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def _splitmix(key: int, index: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Elements `index` of the SplitMix64 sequence that starts at `key` (Steele, Lea, Flood, OOPSLA 2014)."""
    word = index * np.uint64(0x9E3779B97F4A7C15)
    word += np.uint64(key)
    word ^= word >> np.uint64(30)
    word *= np.uint64(0xBF58476D1CE4E5B9)
    word ^= word >> np.uint64(27)
    word *= np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    return word


def adjust(
    logits: torch.Tensor,
    params: SamplingParams,
    prefix: Sequence[int],
    draft: Sequence[int] | torch.Tensor = (),
) -> torch.Tensor:
    """Apply the whole logits-processor chain to every row, each with the prefix that row has.

    The chain and its meaning are those of transformers: repetition penalty, temperature, top-k, top-p, min-p.
    `logits` is not changed, and is what comes back when there is nothing to do.

    Args:
        logits: [len(draft) + 1, V]; row j follows `prefix` and `draft[:j]`.
        params: temperature 0 leaves 0 at the first maximum of each row and -inf elsewhere.
        prefix: every committed token, the prompt's included.
        draft: the tokens under verification [k]; read only when there is a repetition penalty.

    Returns:
        Scores [len(draft) + 1, V], float32 or wider, of which softmax is the law; a removed token has -inf.
    """
    scores = penalise(logits, params, prefix, draft)
    if params.temperature == 0:
        top = first_argmax(scores).unsqueeze(-1)
        return torch.full_like(scores, -math.inf).scatter_(-1, top, 0.0)
    return _warp(scores, params)


def penalise(
    logits: torch.Tensor,
    params: SamplingParams,
    prefix: Sequence[int],
    draft: Sequence[int] | torch.Tensor = (),
) -> torch.Tensor:
    """The first link of `adjust`, which is all that a greedy choice depends on; arguments and shapes as there."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if params.repetition_penalty == 1.0:
        return logits
    drafted = draft.tolist() if isinstance(draft, torch.Tensor) else draft
    assert len(logits) == len(drafted) + 1
    first_row = dict.fromkeys(prefix, 0)  # token -> the first row whose prefix holds it
    for row, token in enumerate(drafted, start=1):
        first_row.setdefault(token, row)
    ids = np.fromiter(first_row, np.int64, len(first_row))
    since = np.fromiter(first_row.values(), np.int64, len(first_row))
    seen = torch.from_numpy(np.arange(len(logits))[:, None] >= since).to(logits.device)
    tokens = torch.from_numpy(ids).to(logits.device).expand(len(logits), -1)
    old = logits.gather(-1, tokens)
    new = torch.where(old < 0, old * params.repetition_penalty, old / params.repetition_penalty)
    return logits.clone().scatter_(-1, tokens, torch.where(seen, new, old))


def _warp(scores: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    has_cut = params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0
    if params.temperature != 1.0:
        scores = scores / params.temperature
    if not has_cut:
        return scores
    return _cut_on_cpu(scores, params) if scores.is_cpu else _cut(scores, params)


def _cut(scores: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Top-k, top-p and min-p of scores [n, V] on any device; at least one token of each row is left."""
    if 0 < params.top_k < scores.shape[-1]:
        kth = scores.topk(params.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -math.inf)
    if params.top_p < 1.0:
        ranked, order = scores.sort(dim=-1, stable=True)
        removed = ranked.softmax(-1).cumsum(-1) <= 1.0 - params.top_p
        removed[:, -1] = False
        scores = scores.masked_fill(torch.zeros_like(removed).scatter_(-1, order, removed), -math.inf)
    if params.min_p > 0.0:
        least = scores.amax(-1, keepdim=True) + math.log(params.min_p)
        scores = scores.masked_fill(scores < least, -math.inf)
    return scores


def _cut_on_cpu(scores: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """`_cut` by lists of what is left: sorting or masking the vocabulary takes a CPU milliseconds."""
    rows = scores.numpy()
    result = np.full_like(rows, -math.inf)
    for row, cut in zip(rows, result, strict=True):
        left, values = np.arange(row.size), row
        if 0 < params.top_k < row.size:
            left = np.flatnonzero(row >= np.partition(row, row.size - params.top_k)[row.size - params.top_k])
            values = row[left]
        if params.top_p < 1.0:
            kept = _nucleus(values, params.top_p)
            left, values = left[kept], values[kept]
        if params.min_p > 0.0:
            kept = np.flatnonzero(values >= values.max() + math.log(params.min_p))
            left, values = left[kept], values[kept]
        cut[left] = values
    return torch.from_numpy(result)


def _nucleus(scores: npt.NDArray[np.floating], top_p: float) -> npt.NDArray[np.intp]:
    """Indices of the most likely scores [m] that hold `top_p` together; of equal ones the later is taken first."""
    probs = torch.softmax(torch.from_numpy(scores), dim=-1).numpy()
    # Tokens below this share hold less than half of 1 - top_p together, so the end of the nucleus is among the others.
    left = np.flatnonzero(probs >= (1.0 - top_p) / (2 * probs.size))
    ranked = np.sort(probs[left])[::-1]
    size = min(int(ranked.cumsum(dtype=np.float64).searchsorted(top_p)) + 1, ranked.size)
    least = ranked[size - 1]
    nucleus: npt.NDArray[np.intp] = left[probs[left] >= least]
    if nucleus.size > size:
        nucleus = np.delete(nucleus, np.flatnonzero(probs[nucleus] == least)[: nucleus.size - size])
    return nucleus


def is_finite(logits: torch.Tensor) -> bool:
    """Whether no logit [R, V] is inf or NaN; one sum, which finite logits cannot overflow."""
    return math.isfinite(float(logits.sum()))


def first_argmax(scores: torch.Tensor) -> torch.Tensor:
    """Index of the maximum over the last dimension, the first one of equals: [..., V] -> int64 [...]."""
    return torch.from_numpy(np.asarray(scores.numpy().argmax(-1))) if scores.is_cpu else scores.argmax(-1)


def race(scores: torch.Tensor, gumbel: torch.Tensor) -> torch.Tensor:
    """Draw from softmax(scores) by the Gumbel-max rule, the first of equals: [..., V] twice -> int64 [...]."""
    return first_argmax(scores + gumbel)


def probabilities(scores: torch.Tensor) -> torch.Tensor:
    """The law that scores stand for, in float32 or wider: softmax over the last dimension."""
    return torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))


def draw(scores: torch.Tensor, uniform: float) -> int:
    """Draw a token from softmax(`scores` [V]) with one `uniform` in [0, 1); a removed token is never drawn."""
    return draw_from(probabilities(scores), uniform)


def draw_from(weights: torch.Tensor, uniform: float) -> int:
    """Draw an index with probability in proportion to `weights` [V] >= 0, of which at least one is positive.

    The inverse of the cumulated weights, summed in float64 on the CPU whatever the device: float64 and ordered sums
    are not to be had everywhere, and one row is cheap to move. A weight of zero is never drawn, because the sum does
    not rise there.
    """
    cumulated = weights.cpu().cumsum(0, dtype=torch.float64).numpy()
    total = float(cumulated[-1])
    assert total > 0.0
    # A float64 below 1 times total rounds to less than total, so the index exists.
    return int(cumulated.searchsorted(uniform * total, side="right"))
