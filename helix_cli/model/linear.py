"""A matrix product with fixed weights, packed for the CPU where that pays.

oneDNN's prepacked float32 weights make five rows cost about what one costs (5632 x 2048 on two AVX2 cores: 2.2 and
2.8 ms, against 2.6 and 7.8 ms for `F.linear`), and that is what makes verification nearly free.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class Linear:
    """`x @ weight.T + bias` for `x` [..., in]; `weight` is [out, in]. With `packed` the plain weight is not kept."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, packed: bool = False) -> None:
        self.bias = bias
        self._packed: Tensor | None = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()) if packed else None
        self._weight: Tensor | None = None if packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is not None:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
            return product
        assert self._weight is not None
        return functional.linear(x, self._weight, self.bias)
