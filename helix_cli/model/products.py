"""Which kernel multiplies a float matrix on this machine."""

from __future__ import annotations

import torch
from torch import Tensor

from helix_cli.backend import Backend
from helix_cli.model.float_native import DTYPES, NativeLinear, open_float
from helix_cli.model.linear import Linear, Product


def float_product(weight: Tensor, bias: Tensor | None, backend: Backend) -> Product:
    """The product with `weight` [out, in]: Helix's own kernel on a CPU, else torch's, packed where that exists.

    Processors with instructions for bfloat16 leave it to oneDNN, which uses them.
    """
    is_ours = weight.dtype in DTYPES and (weight.dtype == torch.float32 or weight.dtype not in backend.automatic)
    function = open_float() if backend.mixed_products and is_ours else None
    if function is not None:
        return NativeLinear(weight, bias, function)
    return Linear(weight, bias, backend.packed_linear)
