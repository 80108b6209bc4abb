"""The gate of the MLP: silu(gate) * up, of both halves of one product."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.native.pointwise import open_pointwise, vector_width


def gated(both: Tensor) -> Tensor:
    """[M, 2 k], gate and up side by side, to [M, k]."""
    half = both.shape[1] // 2
    if both.is_cpu and both.dtype == torch.float32 and half % vector_width() == 0:
        pointwise = open_pointwise()
        if pointwise is not None:
            return pointwise.gate(both)
    return functional.silu(both.narrow(1, 0, half)).mul_(both.narrow(1, half, half))
