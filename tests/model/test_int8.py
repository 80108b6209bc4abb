"""Eight-bit products: exact sums, rows that do not know of each other, outlier channels kept apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.model import calibrate, int8
from helix_cli.model.calibrate import fit, row_error
from helix_cli.model.int8 import Int8Linear, input_levels, quantise

NONE = torch.empty(0, dtype=torch.int64)

pytestmark = pytest.mark.skipif(input_levels() is None, reason="no exact integer products on this processor")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def test_the_probe_finds_saturation() -> None:
    """Whatever it answers, the worst case is exact at that many levels; 127 where the hardware allows it."""
    levels = input_levels()
    assert levels in (63, 127)
    assert int8._is_exact(63) and int8._is_exact(127) == (levels == 127)


@pytest.mark.parametrize("kept", [[], [3, 17]], ids=["all", "kept"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_product_is_that_of_the_rounded_numbers(kept: list[int], has_bias: bool) -> None:
    """Against the same roundings in float64: what is left is float32's own error."""
    weight = quantise(random(50, 70), torch.tensor(kept, dtype=torch.int64))
    bias = random(50, seed=1) if has_bias else None
    x, residual = random(9, 70, seed=2), random(9, 50, seed=3)
    product, levels = Int8Linear(weight, bias), input_levels()
    assert levels is not None
    rest = x.double().index_fill(1, weight.kept, 0.0)
    scale = rest.abs().amax(1, keepdim=True)
    wanted = (rest / scale * levels).round() * scale / levels @ (weight.values.double() * weight.scales[:, None]).t()
    wanted = wanted + x.double()[:, weight.kept] @ weight.columns.double().t()
    wanted = wanted if bias is None else wanted + bias
    torch.testing.assert_close(product(x).double(), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(product.add(x, residual).double(), wanted + residual, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kept", [0, 16])
@pytest.mark.parametrize("shape", [(64, 64), (300, 200), (96, 1000)], ids=str)
def test_a_row_has_the_same_bits_in_any_company(shape: tuple[int, int], kept: int) -> None:
    product = Int8Linear(quantise(random(*shape), torch.arange(kept)))
    x, residual = random(33, shape[1], seed=1), random(33, shape[0], seed=2)
    whole, added = product(x), product.add(x, residual)
    for count in (1, 2, 5, 8, 32):
        for start in (0, 1, 33 - count):
            part = slice(start, start + count)
            assert torch.equal(product(x[part]), whole[part])
            assert torch.equal(product.add(x[part], residual[part]), added[part])
    x[1:] *= 1e6
    assert torch.equal(product(x)[0], whole[0]), "a neighbour's size must not matter"


def test_zeros_and_small_types() -> None:
    product = Int8Linear(quantise(torch.zeros(8, 16), NONE))
    assert torch.equal(product(torch.zeros(2, 16)), torch.zeros(2, 8))
    half = Int8Linear(quantise(random(8, 16), NONE))
    x = random(3, 16, seed=1).bfloat16()
    assert half(x).dtype == torch.bfloat16
    torch.testing.assert_close(half(x).float(), half(x.float()), atol=0.05, rtol=0.02)
    assert half.add(x, torch.zeros(3, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_gaussian_input_is_near_the_float_product() -> None:
    weight, x = random(256, 512), random(64, 512, seed=1)
    wanted = functional.linear(x, weight)
    assert row_error(Int8Linear(quantise(weight, NONE))(x), wanted, wanted) < 0.02


@pytest.mark.parametrize("size", [100.0, 300.0])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_planted_outliers_are_kept(size: float, count: int) -> None:
    """The signal beside the outliers survives; without treatment it drowns."""
    weight, x = random(256, 1024), random(64, 1024, seed=1)
    channels = torch.arange(count) * 83 + 5
    x[:, channels] *= size
    beside = x.index_fill(1, channels, 0.0)
    wanted, outliers = functional.linear(beside, weight), functional.linear(x - beside, weight)
    found = fit(weight, x)
    assert found is not None and set(channels.tolist()) <= set(found.kept.tolist())
    assert row_error(Int8Linear(found)(x) - outliers, wanted, wanted) < 0.03
    assert row_error(Int8Linear(quantise(weight, NONE))(x) - outliers, wanted, wanted) > 0.2, (
        "the plain product must fail"
    )


def test_no_more_is_kept_than_it_takes_and_what_cannot_be_rounded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = random(64, 1024), random(32, 1024, seed=1)
    found = fit(weight, x)
    assert found is not None and len(found.kept) == 0
    monkeypatch.setattr(calibrate, "TOLERANCE", 1e-4)
    assert fit(weight, x) is None


def test_dequantised_is_what_the_product_multiplies_by() -> None:
    weight = random(20, 30)
    found = quantise(weight, torch.tensor([4]))
    assert torch.equal(found.dequantised()[:, 4], weight[:, 4])
    torch.testing.assert_close(found.dequantised(), weight, atol=float(found.scales.max()) / 2 + 1e-6, rtol=0)


def test_without_integer_products_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "input_levels", lambda: None)
    with pytest.raises(RuntimeError, match="no exact integer products"):
        Int8Linear(quantise(random(8, 8), NONE))
