"""Eight-bit weights for one matrix, chosen by looking at what really comes in.

A few input channels of real models are many times larger than the rest (the input of the down projection above all),
and a row's scale would drown the rest in them: one channel 100 times the others leaves an error of 0.4 in the remaining
signal. Such channels are kept in float (the mixed decomposition of LLM.int8, Dettmers et al., arXiv 2208.07339), as
many as it takes; where that does not help either, the matrix stays as wide as it was. Which channels they are is a
property of the matrix and not of the input at hand, so no row's result depends on another row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.model.int8 import Int8Linear, Int8Weight, quantise
from helix_cli.model.int8_kernels import Int8Kernel

TOLERANCE = 0.06
"""Error of a row, relative to its signal beside the outliers, that is good enough on average.

Gaussian input gives 0.015 to 0.018."""
KEPT_COUNTS = (0, 4, 16, 64)
LARGEST_SHARE = 16
"""At most one channel in so many is kept; beyond that, float is as fast."""


def fit(weight: Tensor, inputs: Tensor, kernel: Int8Kernel) -> Int8Weight | None:
    """The fewest kept channels with which the product of `inputs` [T, in] is within TOLERANCE; None where none is."""
    inputs = inputs.float()
    wanted = functional.linear(inputs, weight.float())
    order = _by_prominence(inputs)
    counts = [count for count in KEPT_COUNTS if count * LARGEST_SHARE <= weight.shape[1]]
    # An outlier's own contribution is large and easy to round; what counts is what else there is.
    beside = functional.linear(inputs.index_fill(1, order[: counts[-1]], 0.0), weight.float())
    for count in counts:
        candidate = quantise(weight, order[:count].sort().values)
        if row_error(Int8Linear(candidate, None, kernel)(inputs), wanted, beside) <= TOLERANCE:
            return candidate
    return None


def row_error(found: Tensor, wanted: Tensor, signal: Tensor) -> float:
    """Mean over the rows of |found - wanted| / |signal|."""
    lengths = torch.linalg.vector_norm(signal, dim=-1).clamp_(min=torch.finfo(torch.float32).tiny)
    return float((torch.linalg.vector_norm(found - wanted, dim=-1) / lengths).mean())


def _by_prominence(inputs: Tensor) -> Tensor:
    """Channels, the one that stands out most from its row's root mean square first."""
    typical = inputs.square().mean(-1, keepdim=True).sqrt().clamp_(min=torch.finfo(torch.float32).tiny)
    return (inputs.abs() / typical).amax(0).argsort(descending=True)
