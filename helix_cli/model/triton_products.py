"""A product of few float rows with eight-bit weights, as a Triton kernel.

Only `int8_device.py` imports this file, and only where Triton is installed.
"""

from __future__ import annotations

import triton
import triton.language as tl

from helix_cli.attention.triton_kernels import inner_type

__all__ = ["inner_type", "product_kernel"]


@triton.jit
def product_kernel(
    x,  # [num_rows, num_inputs], its rows `x_stride` elements apart
    values,  # int8 [num_outputs, num_inputs]
    scales,  # float32 [num_outputs]
    bias,  # [num_outputs], if BIASED
    added,  # [num_rows, num_outputs], rows `added_stride` elements apart, if ADDS
    out,  # [num_rows, num_outputs]
    num_rows,
    num_outputs,
    num_inputs,
    x_stride,
    added_stride,
    BIASED: tl.constexpr,
    ADDS: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    INNER: tl.constexpr,  # number type of what is multiplied; every int8 is a number of each of them
):
    """All rows times OUTPUTS columns of the result; sums in float32. One program reads each weight, once."""
    row = tl.arange(0, ROWS)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    is_row, is_output = row < num_rows, output < num_outputs
    x_rows = x + row.to(tl.int64)[:, None] * x_stride
    value_rows = values + output.to(tl.int64)[:, None] * num_inputs
    total = tl.zeros([ROWS, OUTPUTS], tl.float32)
    for start in range(0, num_inputs, INPUTS):
        column = start + tl.arange(0, INPUTS)
        is_column = column[None, :] < num_inputs
        left = tl.load(x_rows + column[None, :], mask=is_row[:, None] & is_column, other=0.0)
        right = tl.load(value_rows + column[None, :], mask=is_output[:, None] & is_column, other=0)
        total += tl.dot(left.to(INNER), tl.trans(right.to(INNER)), input_precision="ieee")
    total *= tl.load(scales + output, mask=is_output, other=0.0)[None, :]
    if BIASED:
        total += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)[None, :]
    mask = is_row[:, None] & is_output[None, :]
    if ADDS:
        places = row.to(tl.int64)[:, None] * added_stride + output[None, :]
        total += tl.load(added + places, mask=mask, other=0.0).to(tl.float32)
    places = row.to(tl.int64)[:, None] * num_outputs + output[None, :]
    tl.store(out + places, total.to(out.dtype.element_ty), mask=mask)
