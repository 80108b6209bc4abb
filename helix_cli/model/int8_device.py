"""Eight-bit weights on a GPU: stored as int8 with a scale for each output, multiplied with the rows as they are.

A decode step waits for its weights to be read, so half the bytes of a 16-bit format is what counts; the rows keep their
number type, and outliers among them need no care. Few rows run in a Triton kernel that widens the weights on their way
to the matrix units. Many rows are bound by arithmetic: there the matrix is widened once, and the library multiplies.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.attention.triton_paged import FEWEST_ROWS, power_of_two
from helix_cli.backend.triton import why_no_triton, why_unusable
from helix_cli.model.int8 import quantise

FEW_ROWS: Final = 64
"""Up to so many rows of input run in the Triton kernel."""
INPUTS: Final = 128
"""Elements of each row that a program multiplies in one turn."""
NARROW: Final = 4096
"""Matrices with fewer outputs are cut into more pieces, so that every processor has some."""
PROBE_TOLERANCE: Final = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


class Int8DeviceLinear:
    """`x @ weight.T + bias` for `x` [M, in] in a float type, with `weight` [out, in] in eight bits; see `Product`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        from helix_cli.model import triton_products

        self._kernels: Any = triton_products
        rounded = quantise(weight, torch.empty(0, dtype=torch.int64, device=weight.device))
        self.values, self.scales, self.bias = rounded.values.contiguous(), rounded.scales, bias
        self.num_bytes = self.values.numel() + 4 * self.scales.numel()

    def __call__(self, x: Tensor) -> Tensor:
        """[M, in] to [M, out]."""
        return self._product(x, None)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The product plus `residual` [M, out]."""
        return self._product(x, residual)

    def uniform(self, least: int) -> Int8DeviceLinear:
        """Itself: no device that runs it has an exact mode."""
        return self

    def _product(self, x: Tensor, added: Tensor | None) -> Tensor:
        if len(x) > FEW_ROWS:
            weight = torch.empty_like(self.values, dtype=x.dtype)
            torch.mul(self.values, self.scales[:, None], out=weight)  # multiplied in float32, stored narrower
            wide = functional.linear(x, weight, self.bias)
            return wide if added is None else wide.add_(added)
        x = x if x.stride(1) == 1 else x.contiguous()
        added = added if added is None or added.stride(1) == 1 else added.contiguous()
        out = torch.empty(len(x), len(self.scales), dtype=x.dtype, device=x.device)
        with torch.cuda.device(x.get_device()):  # Triton launches on the thread's own device, wherever the tensors are
            self._launch(x, added, out)
        return out

    def _launch(self, x: Tensor, added: Tensor | None, out: Tensor) -> None:
        (num_rows, num_inputs), num_outputs = x.shape, len(self.scales)
        outputs = 16 if num_outputs < NARROW else 32
        self._kernels.product_kernel[(-(-num_outputs // outputs),)](
            x,
            self.values,
            self.scales,
            out if self.bias is None else self.bias,
            out if added is None else added,
            out,
            num_rows,
            num_outputs,
            num_inputs,
            x.stride(0),
            0 if added is None else added.stride(0),
            BIASED=self.bias is not None,
            ADDS=added is not None,
            ROWS=max(FEWEST_ROWS, power_of_two(num_rows)),
            OUTPUTS=outputs,
            INPUTS=INPUTS,
            INNER=self._kernels.inner_type(x.dtype),
            num_warps=4,
            num_stages=2 if x.dtype == torch.float32 else 4,
        )


@cache
def why_not(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why rows of a number type cannot be multiplied by eight-bit weights here, in a few words; None where they can."""
    reason = why_no_triton(device)
    return reason or why_unusable(lambda: largest_error(dtype, device), PROBE_TOLERANCE[dtype])


@torch.no_grad()
def largest_error(dtype: torch.dtype, device: torch.device) -> float:
    """The largest difference from the product with the rounded matrix in float32, over few rows and many."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(100, 200, generator=generator) / 14, torch.randn(100, generator=generator)
    product = Int8DeviceLinear(weight.to(dtype).to(device), bias.to(dtype).to(device))
    rounded = product.values.float() * product.scales[:, None]
    worst = 0.0
    for rows in (1, 5, FEW_ROWS + 1):
        x, added = (torch.randn(rows, width, generator=generator).to(dtype).to(device) for width in (200, 100))
        wanted = functional.linear(x.float(), rounded, bias.to(dtype).float().to(device)) + added.float()
        worst = max(worst, float((product.add(x, added).float() - wanted).abs().max().nan_to_num(float("inf"))))
    return worst
