"""A matrix product with fixed weights, packed for the CPU where that pays."""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

SMALL = 1 << 18
"""Matrices with fewer elements are kept plain as well, for single rows.

Microseconds on two AVX2 cores, plain / packed, for M = 1 and M = 5 rows. Packing keeps five rows near the price of one,
which makes verification nearly free, but a packed call costs about 25 us before it computes anything.

    5632 x 2048   2620 / 2180    7801 / 2751
    4096 x  256    112 /   82    1230 /  430
    1408 x  256     39 /   48     100 /   67
     256 x  704     19 /   36      54 /   44
     512 x  256     16 /   35      41 /   39
     256 x  256      8 /   33      24 /   33

These have their weights in a cache. In a whole model of 20 such layers, whose weights are not, a pass over five rows
takes 15.8 ms with the small ones plain and 13.4 ms packed, and a pass over one row 10.5 and 12.8.
"""


class Product(Protocol):
    """What a layer needs of a matrix, however its weights are stored."""

    num_bytes: int
    """Bytes of weights that one pass reads."""

    def __call__(self, x: Tensor) -> Tensor:
        """[M, in] to [M, out], in the number type of `x`."""
        ...

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product plus `residual` [M, out]."""
        ...

    def uniform(self, least: int) -> Product:
        """The same product over the same weights, always by one kernel, and never of fewer than `least` rows.

        A row's last bits then have no reason to depend on how many others there are; whether they do, only the kernel
        knows (see model/exact.py).
        """
        ...


class Linear:
    """`x @ weight.T + bias` for `x` [M, in]; `weight` is [out, in], of any number type.

    With `packed`, for CPUs with oneDNN, the weight is kept in oneDNN's own layout; a small one in both. Where packing
    fails, or gives other numbers (a number type without kernels, an unusual build), the plain product is used.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, packed: bool = False) -> None:
        self.bias = bias
        self.dtype = weight.dtype
        self.num_bytes = weight.numel() * weight.itemsize
        self.packed = packed and can_pack(weight.dtype)
        self._packed = _pack(weight) if self.packed else None
        self._plain = weight.contiguous() if not self.packed or weight.numel() < SMALL else None
        self._least = 1

    def __call__(self, x: Tensor) -> Tensor:
        """[M, in] to [M, out]."""
        if x.dtype != self.dtype:
            return self(x.to(self.dtype)).to(x.dtype)
        if x.shape[0] < self._least:
            return self(_filled(x, self._least))[: x.shape[0]]
        if self._plain is not None and (self._packed is None or x.shape[0] == 1):
            return functional.linear(x, self._plain, self.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, self._packed, self.bias, "none", [], "")
        return product

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product plus `residual` [M, out], in one operation where there is one."""
        if x.dtype != self.dtype:
            return self(x.to(self.dtype)).to(x.dtype).add_(residual)
        if x.shape[0] < self._least:
            return self.add(_filled(x, self._least), _filled(residual, self._least))[: x.shape[0]]
        if self._plain is not None and (self._packed is None or x.shape[0] == 1):
            if self.bias is None:
                return torch.addmm(residual, x, self._plain.t())
            return functional.linear(x, self._plain, self.bias).add_(residual)
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._packed, self.bias, "add")
        return total

    def uniform(self, least: int) -> Linear:
        """See `Product`."""
        other = copy(self)
        other._least = least
        if self._packed is not None:
            other._plain = None
        return other


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
    except (AttributeError, RuntimeError):
        return False
    wanted = functional.linear(x.to(dtype).float(), weight.to(dtype).float())
    tolerance = 8 * torch.finfo(dtype).eps * float(wanted.abs().max())
    return all(bool(error.abs().max() <= tolerance) for error in (found - wanted, added - 2 * wanted))


def _filled(x: Tensor, rows: int) -> Tensor:
    """`x` [M, n] with rows of zeros behind it."""
    return functional.pad(x, (0, 0, 0, rows - x.shape[0]))


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


def _has_bfloat16() -> bool:
    """Without it oneDNN may still compute, with reference kernels that are far slower than the plain product."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False
