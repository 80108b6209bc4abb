"""Packed and plain products agree, and packing gives way where it does not work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from helix_cli.model import linear
from helix_cli.model.linear import Linear, can_pack


@pytest.fixture(autouse=True)
def _fresh_probe() -> Iterator[None]:
    can_pack.cache_clear()
    yield
    can_pack.cache_clear()


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("packed", "small"), [(False, 0), (True, 0), (True, 1 << 18)])
def test_products(
    monkeypatch: pytest.MonkeyPatch, packed: bool, small: int, has_bias: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(linear, "SMALL", small)
    weight, bias = random(48, 32, dtype=dtype), random(48, dtype=dtype) if has_bias else None
    product = Linear(weight, bias, packed)
    for rows in (1, 2, 5, 33):
        x, residual = random(rows, 32, dtype=dtype), random(rows, 48, dtype=dtype)
        kept = residual.clone()
        wanted = functional.linear(x.float(), weight.float(), None if bias is None else bias.float())
        tolerance = 1e-4 if dtype == torch.float32 else 0.2
        torch.testing.assert_close(product(x).float(), wanted, atol=tolerance, rtol=tolerance)
        found = product.add(x, residual)
        torch.testing.assert_close(found.float(), wanted + residual.float(), atol=tolerance, rtol=tolerance)
        assert torch.equal(residual, kept)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("least", [1, 4])
def test_a_uniform_product_runs_one_kernel_with_company_if_need_be(least: int, has_bias: bool) -> None:
    weight, bias = random(48, 32), random(48) if has_bias else None
    x, residual = random(6, 32), random(6, 48)
    usual = Linear(weight, bias, packed=True)
    product = usual.uniform(least)
    assert (product._plain is None) == can_pack(torch.float32) and usual._plain is not None
    for rows in (1, 3, 5):
        whole, added = x[:rows].clone(), residual[:rows].clone()
        if rows < least:
            whole, added = (torch.cat([part, torch.zeros(least - rows, part.shape[1])]) for part in (whole, added))
        kernel = usual.uniform(1)
        assert torch.equal(product(x[:rows]), kernel(whole)[:rows])
        assert torch.equal(product.add(x[:rows], residual[:rows]), kernel.add(whole, added)[:rows])


def test_only_small_weights_are_held_twice() -> None:
    works = can_pack(torch.float32)
    for size, twice in ((8, works), (512, False)):
        product = Linear(random(size, size), packed=True)
        assert product.packed == works
        assert (product._plain is not None and product._packed is not None) == twice
    assert not Linear(random(512, 512), packed=False).packed


@pytest.mark.parametrize("fault", ["missing", "raises", "wrong"])
def test_packing_that_does_not_work_is_not_used(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def pack(weight: torch.Tensor) -> Any:
        if fault == "missing":
            raise AttributeError("no such operation")
        if fault == "raises":
            raise RuntimeError("not on this processor")
        return torch.ops.mkldnn._reorder_linear_weight(weight + 1)

    monkeypatch.setattr(linear, "_pack", pack)
    weight, x = random(512, 512), random(2, 512)
    product = Linear(weight, packed=True)
    assert not product.packed
    assert torch.equal(product(x), functional.linear(x, weight))
