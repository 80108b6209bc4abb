"""The kernel of a float matrix: ours on a CPU, torch's elsewhere and where it knows better."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helix_cli.backend import open_backend
from helix_cli.model import products
from helix_cli.model.float_native import NativeLinear, open_float
from helix_cli.model.linear import Linear
from helix_cli.model.products import float_product


def test_the_compiled_kernel_runs_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = replace(open_backend("cpu"), automatic={})
    native = cpu if open_float() else None
    quick = replace(cpu, automatic={torch.bfloat16: torch.bfloat16})
    for dtype, backend, is_ours in (
        (torch.float32, cpu, native),
        (torch.bfloat16, cpu, native),
        (torch.float32, quick, native),
        (torch.bfloat16, quick, None),
        (torch.float16, cpu, None),
        (torch.float32, replace(cpu, mixed_products=False), None),
    ):
        found = float_product(torch.zeros(4, 4, dtype=dtype), None, backend)
        assert isinstance(found, NativeLinear if is_ours else Linear), (dtype, backend.automatic)
    monkeypatch.setattr(products, "open_float", lambda: None)
    assert isinstance(float_product(torch.zeros(4, 4), None, cpu), Linear)
