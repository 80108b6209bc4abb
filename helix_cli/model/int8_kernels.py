"""Integer products: the kernels that multiply eight-bit weights, and which of them this machine runs.

To add one, write a class that is an `Int8Kernel` and name it in INT8_KERNELS; the contract tests run over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from helix_cli.model.int8_fbgemm import open_fbgemm
from helix_cli.model.int8_native import open_native

LARGEST = 127
"""Largest weight value; -128 is left out, so that the range is symmetric."""


class Int8Kernel(Protocol):
    """Products that sum in integers, exactly, with a scale for each row of the input."""

    name: str
    levels: int
    """Inputs are rounded to -levels .. levels, the largest range with which no sum can saturate."""

    def pack(self, values: Tensor, scales: Tensor) -> Any:
        """Weights int8 [out, in] and their scales float32 [out], in the kernel's own layout; a copy."""
        ...

    def multiply(self, x: Tensor, packed: Any, bias: Tensor | None, added: Tensor | None) -> Tensor:
        """Rows float32 [M, in] times the weights, plus `bias` [out] and `added` [M, out]: float32 [M, out].

        A row that is not finite gives a result that is not finite.
        """
        ...


INT8_KERNELS: Mapping[str, Callable[[], Int8Kernel | None]] = {"native": open_native, "fbgemm": open_fbgemm}
"""Name -> an opener, which returns None where the kernel cannot be had; the best is first."""


@cache
def open_kernel(name: str) -> Int8Kernel | None:
    """One kernel, if it can be had here and its sums are right."""
    kernel = INT8_KERNELS[name]()
    return kernel if kernel is not None and is_exact(kernel) else None


@cache
def best_kernel() -> Int8Kernel | None:
    """The first that can be had; None where there is none."""
    return next((kernel for name in INT8_KERNELS if (kernel := open_kernel(name)) is not None), None)


def is_exact(kernel: Int8Kernel) -> bool:
    """Whether the largest sums come out right: all signs alike, and shapes that fill no tile."""
    for outputs, inputs in ((64, 256), (67, 130)):
        values = torch.full((outputs, inputs), LARGEST, dtype=torch.int8)
        values[1::2, ::2] = -LARGEST
        x = torch.full((9, inputs), float(kernel.levels))
        x[1::2, 1::2] = -kernel.levels
        wanted = x.double() @ values.t().double()
        packed = kernel.pack(values, torch.ones(outputs))
        for rows in (1, 2, 5, 9):
            found = kernel.multiply(x[:rows], packed, None, None)
            if not torch.allclose(found.double(), wanted[:rows], rtol=1e-5, atol=1e-2):
                return False
    return True
