"""RMSNorm (Zhang and Sennrich, arXiv 1910.07467), normalised in float32 whatever the number type."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from helix_cli.native.pointwise import open_pointwise, vector_width


class RMSNorm:
    """`x / sqrt(mean(x * x) + eps) * weight` over the last dimension; `weight` ends with that dimension."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        dim = weight.shape[-1]
        self._weight = weight
        self._eps = eps
        is_row = weight.is_cpu and weight.dtype == torch.float32 and weight.ndim == 1 and dim % vector_width() == 0
        self._compiled = open_pointwise() if is_row else None
        # On the CPU rms_norm is a chain of six operations; in float32 four say the same in half the time:
        # sqrt(sum(x * x) + dim * eps) is the hypotenuse of the length of x and a constant.
        self._as_length = weight.is_cpu and weight.dtype == torch.float32
        self._scaled = weight * dim**0.5
        self._floor = torch.tensor((dim * eps) ** 0.5, device=weight.device)

    def __call__(self, x: Tensor) -> Tensor:
        """[..., dim] to the same shape, in a new tensor."""
        if self._compiled is not None and x.ndim == 2 and x.is_contiguous():
            return self._compiled.norm(x, self._weight, self._eps)
        if self._as_length:
            length = torch.linalg.vector_norm(x, 2, -1, True)
            return x.div(length.hypot_(self._floor)).mul_(self._scaled)
        # The order of roundings in a 16-bit type is that of transformers: round the quotient, then the product.
        return rms_norm(x.float(), x.shape[-1:], None, self._eps).to(x.dtype) * self._weight
