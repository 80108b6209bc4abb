"""Eight-bit weights, multiplied in integers with a scale for each row of the input.

A step moves a quarter of float32's bytes, and the integer sums are exact, so a row's result does not depend on how many
other rows are in the product: a rejected draft token cannot touch an accepted one, not even in the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.model.int8_kernels import LARGEST, Int8Kernel

ALIGNED = 16
"""Rows of kept channels are padded to so many floats, 64 bytes: a float sum may depend on where in memory it begins."""


@dataclass(frozen=True)
class Int8Weight:
    """A matrix [out, in] as `values` (int8) times `scales` (float32 [out]), with some columns kept as they were.

    `kept` (int64 [k]) are the input channels that are outliers: their values are 0 and their `columns` [out, k] float.
    """

    values: Tensor
    scales: Tensor
    kept: Tensor
    columns: Tensor

    def dequantised(self) -> Tensor:
        """The matrix that the product really multiplies by, float32 [out, in]."""
        whole = self.values.float() * self.scales[:, None]
        whole[:, self.kept] = self.columns.float()
        return whole


def quantise(weight: Tensor, kept: Tensor) -> Int8Weight:
    """Rounds a matrix [out, in] to 8 bits with a scale for each output, apart from the input channels `kept`."""
    rest = weight.float()
    columns = rest.index_select(1, kept)
    if len(kept):
        rest = rest.index_fill(1, kept, 0.0)
    scales = rest.abs().amax(1).div_(LARGEST).clamp_(min=torch.finfo(torch.float32).tiny)
    values = rest.div(scales[:, None]).round_().to(torch.int8)
    return Int8Weight(values, scales, kept, columns)


class Int8Linear:
    """`x @ weight.T + bias` for `x` [M, in] float32 or bfloat16, with an integer product inside."""

    def __init__(self, weight: Int8Weight, bias: Tensor | None, kernel: Int8Kernel) -> None:
        """Packs the weight for one of INT8_KERNELS."""
        self._kernel = kernel
        self._packed = kernel.pack(weight.values, weight.scales)
        self._bias = None if bias is None else bias.float()
        self._kept = weight.kept
        self._columns = functional.pad(weight.columns, (0, -len(weight.kept) % ALIGNED)).t().contiguous()
        self._mask = torch.ones(weight.values.shape[1]).index_fill_(0, weight.kept, 0.0)
        self.num_bytes = weight.values.numel() + 4 * weight.scales.numel() + 4 * weight.columns.numel()

    def __call__(self, x: Tensor) -> Tensor:
        """[M, in] to [M, out]."""
        return self._product(x.float(), None).to(x.dtype)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product plus `residual` [M, out]."""
        return self._product(x.float(), residual.float()).to(residual.dtype)

    def uniform(self, least: int) -> Int8Linear:
        """Itself: integer sums are exact whatever the number of rows."""
        return self

    def _product(self, x: Tensor, added: Tensor | None) -> Tensor:
        if len(self._kept):
            extra = self._kept_channels(x)
            added = extra if added is None else extra.add_(added)
            x = x * self._mask
        return self._kernel.multiply(x, self._packed, self._bias, added)

    def _kept_channels(self, x: Tensor) -> Tensor:
        """What the kept channels add, [M, out]: a product for each row, whose float sums then cannot know of others."""
        picked = functional.pad(x.index_select(1, self._kept), (0, -len(self._kept) % ALIGNED))
        return torch.cat([row @ self._columns for row in torch.split(picked, 1)])
