"""What stands between the matrix products of a layer, in C: one pass over memory and one call each.

In small models these calls are the time: torch takes four operations for a norm and two for a gate, at five to ten
microseconds each whatever the size.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from helix_cli.backend import host
from helix_cli.native.compile import Function, open_function

_P, _N, _I = ctypes.c_void_p, ctypes.c_long, ctypes.c_int


@dataclass(frozen=True)
class Pointwise:
    """The functions, for contiguous float32 on the CPU with rows of a multiple of `vector_width()`."""

    _norm: Function
    _gate: Function
    _rotate: Function

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """`x / sqrt(mean(x * x) + eps) * weight` for the rows of `x` [M, k]."""
        out = torch.empty_like(x)
        rows, columns = x.shape
        threads = torch.get_num_threads()
        self._norm(x.data_ptr(), rows, columns, weight.data_ptr(), eps, out.data_ptr(), threads)
        return out

    def gate(self, x: Tensor) -> Tensor:
        """`silu(first half) * second half` of the rows of `x` [M, 2 k]: [M, k]."""
        rows, columns = x.shape
        out = torch.empty(rows, columns // 2)
        self._gate(x.data_ptr(), rows, columns // 2, out.data_ptr(), torch.get_num_threads())
        return out

    def rotate(self, x: Tensor, turns: Tensor) -> None:
        """Turns `x` [M, H, head_dim], whose rows may be part of wider ones, by complex `turns` [M, 1, head_dim / 2]."""
        self._rotate(x.data_ptr(), x.shape[0], x.stride(0), x.shape[1], turns.shape[-1], turns.data_ptr())


@cache
def vector_width() -> int:
    """Floats in the widest vector of this processor, as in vectors.h."""
    return 16 if "avx512f" in host.processor_flags() else 8


@cache
def open_pointwise() -> Pointwise | None:
    """The functions; None where they cannot be had."""
    norm = open_function("pointwise.c", "helix_norm", (_P, _N, _N, _P, ctypes.c_float, _P, _I))
    gate = open_function("pointwise.c", "helix_gate", (_P, _N, _N, _P, _I))
    rotate = open_function("pointwise.c", "helix_rotate", (_P, _N, _N, _N, _N, _P))
    return None if norm is None or gate is None or rotate is None else Pointwise(norm, gate, rotate)
