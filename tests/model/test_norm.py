"""RMSNorm in both forms against its definition in float64, and against transformers bit for bit in narrow types."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from helix_cli.model.norm import RMSNorm


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("as_length", [True, False])
def test_float32(as_length: bool, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 7, 64, generator=generator) * scale, torch.randn(64, generator=generator)
    norm = RMSNorm(weight, 1e-5)
    norm._as_length = as_length
    kept = x.clone()
    wanted = x.double() / (x.double().pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    torch.testing.assert_close(norm(x).double(), wanted, atol=1e-6, rtol=1e-5)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("as_length", [True, False])
def test_zeros_stay_zero(as_length: bool) -> None:
    norm = RMSNorm(torch.ones(8), 1e-6)
    norm._as_length = as_length
    assert torch.equal(norm(torch.zeros(2, 8)), torch.zeros(2, 8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_types_are_normalised_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(9, 256, generator=generator).to(dtype), torch.randn(256, generator=generator).to(dtype)
    factory: Any = LlamaRMSNorm
    oracle = factory(256, 1e-5)
    oracle.weight.data = weight
    found = RMSNorm(weight, 1e-5)(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, oracle(x).detach(), atol=0, rtol=float(torch.finfo(dtype).eps))
