"""Which kernel multiplies a float matrix on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor

from helix_cli.backend import Backend
from helix_cli.model.float_native import DTYPES, NativeLinear, can_round, open_float
from helix_cli.model.linear import Linear, Product, can_pack
from helix_cli.native.weight_memory import empty_weights

NATIVE: Final = "native"
PACKED: Final = "packed"
PLAIN: Final = "plain"

Room = Callable[..., Tensor]
"""(shape, dtype=) -> a tensor without content."""


def float_kernel(dtype: torch.dtype, backend: Backend) -> str:
    """Helix's own kernel on a CPU, else torch's, packed where that exists."""
    if backend.mixed_products and dtype in DTYPES and open_float() is not None:
        return NATIVE
    return PACKED if backend.packed_linear and can_pack(dtype) else PLAIN


def rounds_inputs(dtype: torch.dtype, backend: Backend) -> bool:
    """Whether products with weights of `dtype` round float32 inputs to it."""
    if float_kernel(dtype, backend) == NATIVE:
        return dtype == torch.bfloat16 and can_round()
    return dtype != torch.float32


def float_product(weight: Tensor, bias: Tensor | None, backend: Backend) -> Product:
    """The product with `weight` [out, in] by the kernel for it."""
    kernel = float_kernel(weight.dtype, backend)
    function = open_float() if kernel == NATIVE else None
    if function is not None:
        return NativeLinear(weight, bias, function, rounds=can_round())
    return Linear(weight, bias, kernel == PACKED)


def room_for(dtype: torch.dtype, backend: Backend) -> Room:
    """Makes the tensor that a matrix of `dtype` is put together in: what the kernel will stream, where it is ours."""
    return empty_weights if float_kernel(dtype, backend) == NATIVE else partial(torch.empty, device=backend.device)
