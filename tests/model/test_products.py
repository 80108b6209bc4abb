"""The kernel of a float matrix: ours on a CPU, torch's elsewhere and where it knows better."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helix_cli.backend import open_backend
from helix_cli.model import products
from helix_cli.model.float_native import NativeLinear, open_float
from helix_cli.model.linear import Linear
from helix_cli.model.products import float_product, rounds_inputs


def test_the_compiled_kernel_runs_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = open_backend("cpu")
    native = open_float() is not None
    for dtype, backend, is_ours in (
        (torch.float32, cpu, native),
        (torch.bfloat16, cpu, native),
        (torch.float16, cpu, False),
        (torch.float32, replace(cpu, mixed_products=False), False),
    ):
        found = float_product(torch.zeros(4, 4, dtype=dtype), None, backend)
        assert isinstance(found, NativeLinear if is_ours else Linear), dtype
    monkeypatch.setattr(products, "open_float", lambda: None)
    assert isinstance(float_product(torch.zeros(4, 4), None, cpu), Linear)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_what_rounds_is_said(dtype: torch.dtype) -> None:
    """By the bits: an input that has no place in the weights' type, times one."""
    cpu, x = open_backend("cpu"), torch.full((1, 4), 1.0 + 2.0**-12)
    found = float_product(torch.eye(4, dtype=dtype), None, cpu)(x)
    assert rounds_inputs(dtype, cpu) == (found[0, 0].item() != x[0, 0].item())
