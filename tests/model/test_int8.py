"""Eight-bit products: exact sums, rows that do not know of each other, outliers kept apart; for every kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.model import calibrate
from helix_cli.model.calibrate import fit, row_error
from helix_cli.model.int8 import Int8Linear, quantise
from helix_cli.model.int8_kernels import INT8_KERNELS, Int8Kernel, open_kernel

NONE = torch.empty(0, dtype=torch.int64)


@pytest.fixture(params=INT8_KERNELS)
def kernel(request: pytest.FixtureRequest) -> Int8Kernel:
    """Each kernel that can be had here."""
    if INT8_KERNELS[request.param]() is None:
        pytest.skip(f"no {request.param} kernel on this machine")
    found = open_kernel(request.param)
    assert found is not None, "its sums are wrong"
    return found


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many threads torch and the kernels use."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize("kept", [[], [3, 17]], ids=["all", "kept"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_product_is_that_of_the_rounded_numbers(kernel: Int8Kernel, kept: list[int], has_bias: bool) -> None:
    """Against the same roundings in float64: what is left is float32's own error."""
    weight = quantise(random(50, 70), torch.tensor(kept, dtype=torch.int64))
    bias = random(50, seed=1) if has_bias else None
    x, residual = random(9, 70, seed=2), random(9, 50, seed=3)
    product, levels = Int8Linear(weight, bias, kernel), kernel.levels
    rest = x.double().index_fill(1, weight.kept, 0.0)
    scale = rest.abs().amax(1, keepdim=True)
    wanted = (rest / scale * levels).round() * scale / levels @ (weight.values.double() * weight.scales[:, None]).t()
    wanted = wanted + x.double()[:, weight.kept] @ weight.columns.double().t()
    wanted = wanted if bias is None else wanted + bias
    torch.testing.assert_close(product(x).double(), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(product.add(x, residual).double(), wanted + residual, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kept", [0, 16])
@pytest.mark.parametrize("shape", [(64, 64), (301, 200), (96, 1000)], ids=str)
def test_a_row_has_the_same_bits_in_any_company(
    kernel: Int8Kernel, shape: tuple[int, int], kept: int, threads: int
) -> None:
    product = Int8Linear(quantise(random(*shape), torch.arange(kept)), random(shape[0], seed=3), kernel)
    x, residual = random(70, shape[1], seed=1), random(70, shape[0], seed=2)
    whole, added = product(x), product.add(x, residual)
    for count in (1, 2, 5, 8, 13, 65):
        for start in (0, 1, 70 - count):
            part = slice(start, start + count)
            assert torch.equal(product(x[part]), whole[part])
            assert torch.equal(product.add(x[part], residual[part]), added[part])
    x[1:] *= 1e6
    assert torch.equal(product(x)[0], whole[0]), "a neighbour's size must not matter"


def test_zeros_and_small_types(kernel: Int8Kernel) -> None:
    product = Int8Linear(quantise(torch.zeros(8, 16), NONE), None, kernel)
    assert torch.equal(product(torch.zeros(2, 16)), torch.zeros(2, 8))
    half = Int8Linear(quantise(random(8, 16), NONE), None, kernel)
    x = random(3, 16, seed=1).bfloat16()
    assert half(x).dtype == torch.bfloat16
    torch.testing.assert_close(half(x).float(), half(x.float()), atol=0.05, rtol=0.02)
    assert half.add(x, torch.zeros(3, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_gaussian_input_is_near_the_float_product(kernel: Int8Kernel) -> None:
    weight, x = random(256, 512), random(64, 512, seed=1)
    wanted = functional.linear(x, weight)
    assert row_error(Int8Linear(quantise(weight, NONE), None, kernel)(x), wanted, wanted) < 0.02


@pytest.mark.parametrize("size", [100.0, 300.0])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_planted_outliers_are_kept(kernel: Int8Kernel, size: float, count: int) -> None:
    """The signal beside the outliers survives; without treatment it drowns."""
    weight, x = random(256, 1024), random(64, 1024, seed=1)
    channels = torch.arange(count) * 83 + 5
    x[:, channels] *= size
    beside = x.index_fill(1, channels, 0.0)
    wanted, outliers = functional.linear(beside, weight), functional.linear(x - beside, weight)
    found = fit(weight, x, kernel)
    assert found is not None and set(channels.tolist()) <= set(found.kept.tolist())
    assert row_error(Int8Linear(found, None, kernel)(x) - outliers, wanted, wanted) < 0.03
    assert row_error(Int8Linear(quantise(weight, NONE), None, kernel)(x) - outliers, wanted, wanted) > 0.1, (
        "the plain product must fail"
    )


def test_no_more_is_kept_than_it_takes_and_what_cannot_be_rounded_stays(
    kernel: Int8Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, x = random(64, 1024), random(32, 1024, seed=1)
    found = fit(weight, x, kernel)
    assert found is not None and len(found.kept) == 0
    monkeypatch.setattr(calibrate, "TOLERANCE", 1e-4)
    assert fit(weight, x, kernel) is None


def test_dequantised_is_what_the_product_multiplies_by() -> None:
    weight = random(20, 30)
    found = quantise(weight, torch.tensor([4]))
    assert torch.equal(found.dequantised()[:, 4], weight[:, 4])
    torch.testing.assert_close(found.dequantised(), weight, atol=float(found.scales.max()) / 2 + 1e-6, rtol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so(kernel: Int8Kernel, bad: float) -> None:
    """A broken model must be noticed, and only the row that is broken."""
    product = Int8Linear(quantise(random(8, 40), NONE), None, kernel)
    x = random(3, 40, seed=1)
    x[1, 7] = bad
    assert product(x).isfinite().all(1).tolist() == [True, False, True]
