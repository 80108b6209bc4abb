"""A matrix product with fixed weights, packed for the CPU where that pays."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

PACK_FROM = 1 << 18
"""Matrices with fewer elements stay plain.

Microseconds on two AVX2 cores, plain / packed, for M = 1 and M = 5 rows. Packing keeps five rows near the price of one,
which makes verification nearly free, but a packed call costs about 25 us before it computes anything.

    5632 x 2048   2620 / 2180    7801 / 2751
    4096 x  256    112 /   82    1230 /  430
    1408 x  256     39 /   48     100 /   67
     256 x  704     19 /   36      54 /   44
     512 x  256     16 /   35      41 /   39
     256 x  256      8 /   33      24 /   33
"""


class Linear:
    """`x @ weight.T + bias` for `x` [M, in]; `weight` is [out, in].

    With `packed`, for CPUs with oneDNN, a large weight is kept in oneDNN's own layout only. Where that fails, or gives
    other numbers (a number type without kernels, an unusual build), the plain product is used.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, packed: bool = False) -> None:
        self.bias = bias
        self.packed = packed and weight.numel() >= PACK_FROM and can_pack(weight.dtype)
        self._weight = _pack(weight) if self.packed else weight.contiguous()
        self._transposed = None if self.packed else self._weight.t()

    def __call__(self, x: Tensor) -> Tensor:
        """[M, in] to [M, out]."""
        if self.packed:
            product: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, self._weight, self.bias, "none", [], "")
            return product
        return functional.linear(x, self._weight, self.bias)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product plus `residual` [M, out], in one operation where there is one."""
        if self.packed:
            total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._weight, self.bias, "add")
            return total
        if self.bias is None and self._transposed is not None:
            return torch.addmm(residual, x, self._transposed)
        return functional.linear(x, self._weight, self.bias).add_(residual)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed products exist here for a number type and agree with the plain ones."""
    if dtype == torch.bfloat16 and not _has_bfloat16():
        return False
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(32, 16, generator=generator), torch.randn(3, 16, generator=generator)
    try:
        packed = _pack(weight.to(dtype))
        found = torch.ops.mkldnn._linear_pointwise.default(x.to(dtype), packed, None, "none", [], "")
        added = torch.ops.mkldnn._linear_pointwise.binary(x.to(dtype), found, packed, None, "add")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    wanted = functional.linear(x.to(dtype).float(), weight.to(dtype).float())
    tolerance = 8 * torch.finfo(dtype).eps * float(wanted.abs().max())
    return all(bool(error.abs().max() <= tolerance) for error in (found - wanted, added - 2 * wanted))


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


def _has_bfloat16() -> bool:
    """Without it oneDNN may still compute, with reference kernels that are far slower than the plain product."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False
