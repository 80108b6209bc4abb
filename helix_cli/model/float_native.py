"""Float products compiled on this machine: as many rows as a verification has take little longer than one.

The weights stay as they are in the checkpoint, float32 or bfloat16, in one copy; sums are float32, and so are rows, or
they are rounded to bfloat16 where the processor multiplies that itself. A row's sums run in one order whatever else is
in the product, so that its result has the same bits in any company.

Microseconds on two AVX2 cores, for 1 and 5 rows and weights that come from memory, when this kernel was chosen; the
packed ones are oneDNN's. `scripts/measure_kernels.py` measures the present ones.

    weights          packed float32    float32    bfloat16
    11264 x 2048     3288 / 4072    3361 / 3303    1892 / 2193
     2048 x 5632     1811 / 2268    1337 / 1642     794 / 1177
     1408 x  256       74 /   90      63 /   79      35 /   50
      256 x  704       45 /   57      29 /   38      19 /   25
"""

from __future__ import annotations

import ctypes
from copy import copy
from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.native.compile import Function, open_function, pointer

SOURCE = "float_product.c"
_P, _N = ctypes.c_void_p, ctypes.c_long
ARGUMENTS = (_P, _N, _N, _P, ctypes.c_int, _N, _P, _P, _P, ctypes.c_int, _P)
DTYPES = (torch.float32, torch.bfloat16)
FLOAT32, BFLOAT16, ROUNDED = range(3)
"""Kinds of products, as in float_product.c."""
MANY_ROWS: Final = 48
"""From here on torch's own float32 product is faster, by a quarter for 512 rows, weights to be widened included."""
MANY_ROUNDED_ROWS: Final = 128
"""The same for inputs that are rounded. oneDNN is faster from 24 rows on, by a quarter for 512; but it rounds what
comes out as well, so a batch of verifications, which may have a hundred rows, keeps its bits here."""
WIDENED: Final = 1 << 20
"""Elements of a bfloat16 matrix that are widened at a time, so that they are still in the cache when they are used."""


class NativeLinear:
    """`x @ weight.T + bias` for `x` [M, in]; `weight` is [out, in], float32 or bfloat16.

    `rounds` rounds the inputs of a bfloat16 weight to its type, which `can_round` must have allowed.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, function: Function, rounds: bool = False) -> None:
        self._weight = weight.contiguous()
        self._bias = None if bias is None else bias.float()
        self._function = function
        self._kind = FLOAT32 if weight.dtype == torch.float32 else ROUNDED if rounds else BFLOAT16
        self._many = MANY_ROUNDED_ROWS if self._kind == ROUNDED else MANY_ROWS
        self._is_uniform = False
        self.num_bytes = weight.numel() * weight.itemsize

    def __call__(self, x: Tensor) -> Tensor:
        """[M, in] to [M, out]."""
        return self._product(x.float(), None).to(x.dtype)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product plus `residual` [M, out]."""
        return self._product(x.float(), residual.float()).to(residual.dtype)

    def uniform(self, least: int) -> NativeLinear:
        """See `Product`; one row alone is no exception here, so `least` changes nothing."""
        other = copy(self)
        other._is_uniform = True
        return other

    def _product(self, x: Tensor, added: Tensor | None) -> Tensor:
        if x.shape[0] >= self._many and not self._is_uniform:
            product = self._many_rows(x)
            return product if added is None else product.add_(added)
        x, added = x.contiguous(), None if added is None else added.contiguous()
        (rows, columns), outputs = x.shape, len(self._weight)
        product, room = torch.empty(rows, outputs), torch.empty_like(x)
        self._function(
            x.data_ptr(),
            rows,
            columns,
            self._weight.data_ptr(),
            self._kind,
            outputs,
            pointer(self._bias),
            pointer(added),
            product.data_ptr(),
            torch.get_num_threads(),
            room.data_ptr(),
        )
        return product

    def _many_rows(self, x: Tensor) -> Tensor:
        weight = self._weight
        if weight.dtype == torch.float32:
            return functional.linear(x, weight, self._bias)
        if self._kind == ROUNDED:
            product = functional.linear(x.to(weight.dtype), weight).float()
            return product if self._bias is None else product.add_(self._bias)
        product = torch.empty(len(x), len(weight))
        step = max(1, WIDENED // weight.shape[1])
        for first in range(0, len(weight), step):
            product[:, first : first + step] = x @ weight[first : first + step].float().t()
        return product if self._bias is None else product.add_(self._bias)


@cache
def open_float() -> Function | None:
    """The kernel, if it can be had here and its sums are right."""
    function = open_function(SOURCE, "helix_float", ARGUMENTS)
    return function if function is not None and is_right(function) else None


@cache
def can_round() -> bool:
    """Whether products with inputs rounded to bfloat16 can be had here and are right."""
    function = open_float()
    return function is not None and has_rounded() and is_right(function, rounds=True)


def has_rounded() -> bool:
    """Whether they are compiled in: the processor has to have them itself."""
    tell, rounds = open_function(SOURCE, "helix_float_rounds", (_P,)), ctypes.c_int()
    if tell is not None:
        tell(ctypes.addressof(rounds))
    return bool(rounds.value)


def is_right(function: Function, rounds: bool = False) -> bool:
    """Whether products agree with torch's, for shapes that fill no tile, alone and in company."""
    generator = torch.Generator().manual_seed(0)
    for outputs, inputs in ((64, 1040), (35, 131), (3, 5)):
        weight, x, added = (
            torch.randn(n, k, generator=generator) for n, k in ((outputs, inputs), (15, inputs), (15, outputs))
        )
        for dtype in (torch.bfloat16,) if rounds else DTYPES:
            product = NativeLinear(weight.to(dtype), None, function, rounds)
            seen = x.to(dtype) if rounds else x
            wanted = functional.linear(seen.double(), weight.to(dtype).double()) + added
            found = product.add(x, added)
            if not torch.allclose(found.double(), wanted, rtol=1e-4, atol=1e-3):
                return False
            for rows in (1, 2, 5, 8):
                if not torch.equal(product.add(x[-rows:], added[-rows:]), found[-rows:]):
                    return False
    return True
