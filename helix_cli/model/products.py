"""Which kernel multiplies a float matrix on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from helix_cli.backend import Backend
from helix_cli.model.float_native import DTYPES, NativeLinear, open_float
from helix_cli.model.linear import Linear, Product
from helix_cli.native.compile import Function
from helix_cli.native.weight_memory import empty_weights

Room = Callable[..., Tensor]
"""(shape, dtype=) -> a tensor without content."""


def float_product(weight: Tensor, bias: Tensor | None, backend: Backend) -> Product:
    """The product with `weight` [out, in]: Helix's own kernel on a CPU, else torch's, packed where that exists.

    Processors with instructions for bfloat16 leave it to oneDNN, which uses them.
    """
    function = _own_kernel(weight.dtype, backend)
    if function is not None:
        return NativeLinear(weight, bias, function)
    return Linear(weight, bias, backend.packed_linear)


def room_for(dtype: torch.dtype, backend: Backend) -> Room:
    """Makes the tensor that a matrix of `dtype` is put together in: what the kernel will stream, where it is ours."""
    if _own_kernel(dtype, backend) is not None:
        return empty_weights
    return partial(torch.empty, device=backend.device)


def _own_kernel(dtype: torch.dtype, backend: Backend) -> Function | None:
    is_ours = dtype in DTYPES and (dtype == torch.float32 or dtype not in backend.automatic)
    return open_float() if backend.mixed_products and is_ours else None
